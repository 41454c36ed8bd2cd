package consensus

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// backupMagic begins the file that Save writes: this line, one line of JSON
// (Backup), the image, and the SHA-256 of all of it.
const backupMagic = backupName + "1\n"

const backupName = "berth cluster snapshot "

// Backup describes a saved cluster.
type Backup struct {
	Cluster string    `json:"cluster,omitempty"`
	Index   uint64    `json:"index"`
	Time    time.Time `json:"time"`
	Objects int       `json:"objects"`
}

// Save writes the state to w: complete and consistent, while work goes on. The
// secrets in it stay sealed. On a follower it may lag.
func (n *Node) Save(w io.Writer, cluster string) (Backup, error) {
	view := n.Snapshot()
	b := Backup{Cluster: cluster, Index: view.Index(), Time: time.Now().UTC()}
	for _, k := range object.Kinds() {
		b.Objects += view.Count(k.Kind)
	}
	head, err := json.Marshal(b)
	if err != nil {
		return b, err
	}
	sum := sha256.New()
	to := io.MultiWriter(w, sum)
	if _, err := io.WriteString(to, backupMagic+string(head)+"\n"); err != nil {
		return b, err
	}
	if err := (&image{view: view}).write(to); err != nil {
		return b, err
	}
	_, err = w.Write(sum.Sum(nil))
	return b, err
}

// Restore replaces the whole state by a saved one, on all masters. It is asked
// of the leader. The file is checked to the last byte, and to be of this cluster,
// before anything changes; watchers have to list again.
func (n *Node) Restore(ctx context.Context, r io.Reader, cluster string) (Backup, error) {
	if err := n.waitLeading(ctx); err != nil {
		return Backup{}, err
	}
	file, err := os.CreateTemp(n.config.Storage.dir, "restore-*")
	if err != nil {
		return Backup{}, object.Errorf(object.CodeUnavailable, object.Ref{}, "the snapshot cannot be kept for checking: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	b, size, _, err := checkBackup(r, file)
	if err != nil {
		return b, unusable(err)
	}
	if b.Cluster != cluster && b.Cluster != "" && cluster != "" {
		e := object.Errorf(object.CodeInvalid, object.Ref{}, "the snapshot is of cluster %s, but this is cluster %s", b.Cluster, cluster)
		e.Hint = "Nothing was changed. Secrets in it could not be opened here, and its nodes have certificates of another authority. Check the context; " +
			"to set the other cluster up anew, give the first of its new masters the old keys and authority before it starts, as docs/operations.md says."
		return b, e
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return b, err
	}
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: b.Index, Size: size}
	limit := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline)
	}
	if err := n.raft.Restore(meta, file, limit); err != nil {
		return b, n.translate(err)
	}
	// The first entry after a restore tells every master's watchers where they are.
	_, err = n.Propose(ctx, object.Changeset{Author: "master/" + n.config.ID, Reason: "restored a snapshot"})
	return b, err
}

func unusable(err error) error {
	e := object.Errorf(object.CodeInvalid, object.Ref{}, "the cluster snapshot cannot be used: %w", err)
	e.Hint = "Nothing was changed. Take another file."
	return e
}

// ReadBackup reads a saved cluster and checks it to the last byte. scratch is a
// directory for as many bytes as it has, for as long as that takes. The secrets in
// the state are sealed.
func ReadBackup(r io.Reader, scratch string) (Backup, *state.Snapshot, error) {
	file, err := os.CreateTemp(scratch, "berth-snapshot-*")
	if err != nil {
		return Backup{}, nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	b, _, v, err := checkBackup(r, file)
	if err != nil {
		return b, nil, unusable(err)
	}
	return b, v, nil
}

// checkBackup copies the image to a file and verifies it on the way; it reads the
// state only when the checksum is right.
func checkBackup(r io.Reader, to *os.File) (b Backup, size int64, v *state.Snapshot, err error) {
	sum := sha256.New()
	br := bufio.NewReader(r)
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != backupMagic {
		if format, ok := bytes.CutPrefix(magic, []byte(backupName)); ok && err == nil {
			return b, 0, nil, fmt.Errorf("it has format %q and this version of Berth knows only %q: use the version that wrote it", bytes.TrimSpace(format), strings.TrimSpace(backupMagic[len(backupName):]))
		}
		return b, 0, nil, errors.New("it is not a cluster snapshot of Berth")
	}
	head, err := br.ReadBytes('\n')
	if err != nil || json.Unmarshal(head, &b) != nil {
		return b, 0, nil, errors.New("its head is damaged")
	}
	sum.Write(magic)
	sum.Write(head)
	tail := &holdBack{to: io.MultiWriter(to, sum), n: sha256.Size}
	if size, err = io.Copy(tail, br); err != nil {
		return b, 0, nil, err
	}
	size -= sha256.Size
	if err := tail.check(sum); err != nil {
		return b, 0, nil, err
	}
	if _, err := to.Seek(0, io.SeekStart); err != nil {
		return b, 0, nil, err
	}
	store, _, err := readImage(to)
	if err != nil {
		return b, 0, nil, err
	}
	if v = store.Snapshot(); v.Index() != b.Index {
		return b, 0, nil, fmt.Errorf("its head says index %d and its state %d", b.Index, v.Index())
	}
	return b, size, v, nil
}

// holdBack passes on all but the last n bytes: the checksum at the file's end.
type holdBack struct {
	to   io.Writer
	n    int
	held []byte
}

func (h *holdBack) Write(p []byte) (int, error) {
	h.held = append(h.held, p...)
	if pass := len(h.held) - h.n; pass > 0 {
		if _, err := h.to.Write(h.held[:pass]); err != nil {
			return 0, err
		}
		h.held = append(h.held[:0], h.held[pass:]...)
	}
	return len(p), nil
}

func (h *holdBack) check(sum hash.Hash) error {
	if len(h.held) != h.n || !bytes.Equal(h.held, sum.Sum(nil)) {
		return errors.New("its checksum is wrong: it is damaged or cut short")
	}
	return nil
}
