package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/berthdev/berth/cluster/object"
)

// Storage is where a master keeps its log and snapshots: Disk or Memory.
type Storage struct {
	dir    string
	memory *memory
}

type memory struct {
	log       *raft.InmemStore
	snapshots raft.SnapshotStore
}

// Disk keeps them in a directory, which is made if it is missing.
func Disk(dir string) Storage { return Storage{dir: dir} }

// Memory keeps them in this value: a master that is closed and opened again with
// the same value finds what it had. For tests.
func Memory() Storage {
	return Storage{memory: &memory{log: raft.NewInmemStore(), snapshots: raft.NewInmemSnapshotStore()}}
}

func (s Storage) valid() bool { return s.dir != "" || s.memory != nil }

// LogFile is the file with the Raft log inside a Disk storage's directory.
const LogFile = "raft.db"

// logStore is raft's log and stable store in one.
type logStore interface {
	raft.LogStore
	raft.StableStore
}

// openStorage opens the stores. The closer closes the file.
func openStorage(c *Config) (logStore, raft.SnapshotStore, func() error, error) {
	if m := c.Storage.memory; m != nil {
		return m.log, m.snapshots, func() error { return nil }, nil
	}
	dir := c.Storage.dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, nil, fmt.Errorf("the master's data directory cannot be made: %w", err)
	}
	path := filepath.Join(dir, LogFile)
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, newLogger(c.Logger))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("the directory for snapshots in %s cannot be used: %w", dir, err)
	}
	used, err := checkFile(path)
	if err != nil {
		return nil, nil, nil, damaged(path, err)
	}
	if used {
		// Opening for writing writes; so what the entries hold is checked before.
		bolt, err := openBolt(path, true)
		if err != nil {
			return nil, nil, nil, err
		}
		covered := uint64(0)
		if list, err := snapshots.List(); err == nil && len(list) > 0 {
			covered = list[0].Index
		}
		if err := errors.Join(checkLog(bolt, covered), bolt.Close()); err != nil {
			return nil, nil, nil, damaged(path, err)
		}
	}
	bolt, err := openBolt(path, false)
	if err != nil {
		return nil, nil, nil, err
	}
	return bolt, snapshots, bolt.Close, nil
}

func openBolt(path string, readOnly bool) (*raftboltdb.BoltStore, error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		// After a truncation of the log a write with the array freelist takes thirty
		// times as long; and the freelist can be found again when the file is opened.
		BoltOptions:             &bbolt.Options{Timeout: 2 * time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, ReadOnly: readOnly},
		MsgpackUseNewTimeFormat: true,
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, object.Errorf(object.CodeUnavailable, object.Ref{}, "%s is in use: another master runs on this data directory; stop it first", path)
	}
	if err != nil {
		return nil, fmt.Errorf("the Raft log %s cannot be opened: %w", path, err)
	}
	return bolt, nil
}

// damaged names the file and the cure.
func damaged(path string, err error) error {
	e := object.Errorf(object.CodeInternal, object.Ref{}, "the Raft log %s is damaged: %w", path, err)
	e.Hint = "Nothing was changed. If other masters run: move the directory " + filepath.Dir(path) + " away, remove this master from the cluster (berth master remove NAME) and let it join again. " +
		"If this was the only master: move it away, start a new cluster and restore the last snapshot (berth snapshot restore FILE)."
	return e
}

// checkLog reads every entry: each must have its checksum, and there must be no
// hole above the index that a snapshot covers (a restore leaves one below).
func checkLog(log raft.LogStore, covered uint64) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r) // bbolt panics on pages it does not understand
		}
	}()
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	for i := first; i <= last && i != 0; i++ {
		var l raft.Log
		err := log.GetLog(i, &l)
		if errors.Is(err, raft.ErrLogNotFound) && i <= covered {
			continue
		}
		if err != nil {
			return fmt.Errorf("entry %d of %d to %d cannot be read: %w", i, first, last, err)
		}
		if l.Index != i {
			return fmt.Errorf("entry %d calls itself %d", i, l.Index)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if _, _, err := openEntry(l.Data); err != nil {
			return fmt.Errorf("entry %d of %d to %d: %w", i, first, last, err)
		}
	}
	return nil
}

// guard stands before the stores. It remembers that writing fails, so that
// proposers hear it at once, and it waits where Raft would panic: a term that
// cannot be saved stops this master from voting and leading, not from living.
type guard struct {
	logStore
	where   string
	fault   func(op string) error
	problem atomic.Pointer[error]
	closing chan struct{}
	once    sync.Once
	report  func(error)
}

func (g *guard) write(op string, do func() error) error {
	err := error(nil)
	if g.fault != nil {
		err = g.fault(op)
	}
	if err == nil {
		err = do()
	}
	if err == nil {
		g.problem.Store(nil)
		return nil
	}
	if g.problem.Swap(&err) == nil {
		g.report(err)
	}
	return err
}

// insist repeats until the write succeeds or the master is closed. The transport
// is closed before, so that nothing that was not saved is told to anyone.
func (g *guard) insist(op string, do func() error) error {
	for {
		if err := g.write(op, do); err == nil {
			return nil
		}
		select {
		case <-g.closing:
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (g *guard) close() { g.once.Do(func() { close(g.closing) }) }

func (g *guard) StoreLog(l *raft.Log) error {
	return g.write("log", func() error { return g.logStore.StoreLog(l) })
}

func (g *guard) StoreLogs(l []*raft.Log) error {
	return g.write("log", func() error { return g.logStore.StoreLogs(l) })
}

func (g *guard) Set(k, v []byte) error {
	return g.insist("stable", func() error { return g.logStore.Set(k, v) })
}

func (g *guard) SetUint64(k []byte, v uint64) error {
	return g.insist("stable", func() error { return g.logStore.SetUint64(k, v) })
}

// failing is what proposers are told while writing fails; nil otherwise.
func (g *guard) failing() error {
	p := g.problem.Load()
	if p == nil {
		return nil
	}
	return storageError(g.where, *p)
}

func storageError(where string, err error) error {
	e := object.Errorf(object.CodeUnavailable, object.Ref{}, "the master cannot write its Raft log in %s: %w", where, err)
	e.Hint = "Look at the disk of this master. Nothing is lost; it goes on by itself when writing works again."
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		e.Hint = "Free space on that disk; the master goes on by itself. Nothing is lost."
	}
	return e
}
