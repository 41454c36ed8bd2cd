package consensus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// stageLife is how many entries may follow a part before the rest has to come.
const stageLife = 16384

// fsm applies the log to the state. It knows one thing, changesets: batches of
// them, and large ones that arrive in parts. Raft calls it from one goroutine.
type fsm struct {
	store   atomic.Pointer[state.Store]
	events  *eventLog
	applied progress
	stages  map[stageID]*stage

	// failure is why this master may not go on: an entry that it cannot read.
	// Skipping it would make this master's state another than the others'.
	failure atomic.Pointer[error]
	fail    func(error)
}

// stage is a large changeset of which not all parts have arrived. It dies with
// the leadership of its proposer (the term), or when the log has moved on too
// far: both are in the log, so that every master forgets it at the same entry.
type stage struct {
	Term  uint64   `json:"term"`
	Last  uint64   `json:"last"` // index of the last part
	Size  int      `json:"size"`
	Parts [][]byte `json:"parts"`
}

// outcome is what became of one changeset.
type outcome struct {
	index uint64
	err   error
}

func newFSM(history int, fail func(error)) *fsm {
	f := &fsm{events: newEventLog(history), stages: map[stageID]*stage{}, fail: fail}
	f.applied.init()
	f.store.Store(state.New())
	return f
}

func (f *fsm) stop(err error) {
	if f.failure.CompareAndSwap(nil, &err) {
		f.fail(err)
	}
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// command is a decoded log entry.
type command struct {
	what    byte
	batch   []object.Changeset
	id      stageID
	number  int
	part    []byte
	problem error
}

// ApplyBatch implements raft.BatchingFSM. The answer for each entry is []outcome.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	commands := make([]command, len(logs))
	_ = Parallel(len(logs), func(i int) error { // what cannot be decoded is the command's own error
		if logs[i].Type == raft.LogCommand {
			commands[i] = decodeCommand(logs[i].Data)
		}
		return nil
	})
	out := make([]any, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand || f.failure.Load() != nil {
			continue
		}
		out[i] = f.apply(l, &commands[i])
	}
	if n := len(logs); n > 0 && f.failure.Load() == nil {
		f.applied.advance(logs[n-1].Index)
	}
	return out
}

func decodeCommand(data []byte) (c command) {
	var payload []byte
	if c.what, payload, c.problem = openEntry(data); c.problem != nil {
		return c
	}
	switch c.what {
	case whatBatch:
		var raw [][]byte
		if raw, c.problem = splitBatch(payload); c.problem != nil {
			return c
		}
		c.batch = make([]object.Changeset, len(raw))
		for i := range raw {
			if err := object.Decode(raw[i], &c.batch[i]); err != nil {
				c.problem = fmt.Errorf("a changeset cannot be read: %w", err)
				return c
			}
		}
	case whatPart, whatCommit, whatDrop:
		c.id, c.number, c.part, c.problem = splitStage(payload)
	default:
		c.problem = fmt.Errorf("there is no entry of type %q", c.what)
	}
	return c
}

func (f *fsm) apply(l *raft.Log, c *command) []outcome {
	if c.problem != nil {
		f.stop(fmt.Errorf("entry %d of the Raft log: %w", l.Index, c.problem))
		return nil
	}
	for id, s := range f.stages {
		if s.Term != l.Term || l.Index-s.Last > stageLife {
			delete(f.stages, id)
		}
	}
	switch c.what {
	case whatPart:
		return []outcome{{l.Index, f.keepPart(l, c)}}
	case whatDrop:
		delete(f.stages, c.id)
		return []outcome{{index: l.Index}}
	case whatCommit:
		one, err := f.assemble(c)
		if err != nil {
			return []outcome{{l.Index, err}}
		}
		c.batch = []object.Changeset{one}
	}
	events, errs := f.store.Load().ApplyOwned(l.Index, c.batch) // decoded for this
	f.events.append(l.Index, events)
	out := make([]outcome, len(errs))
	for i, err := range errs {
		out[i] = outcome{l.Index, err}
	}
	return out
}

func (f *fsm) keepPart(l *raft.Log, c *command) error {
	s := f.stages[c.id]
	if s == nil {
		s = &stage{Term: l.Term}
		f.stages[c.id] = s
	}
	if s.Size += len(c.part); s.Size > maxStaged {
		delete(f.stages, c.id)
		return errTooLarge(s.Size)
	}
	// Snapshots hold the old slice: never write into it.
	parts := slices.Clone(s.Parts)
	for len(parts) <= c.number {
		parts = append(parts, nil)
	}
	parts[c.number] = bytes.Clone(c.part)
	s.Parts, s.Last = parts, l.Index
	return nil
}

// assemble makes the changeset of all its parts.
func (f *fsm) assemble(c *command) (one object.Changeset, err error) {
	s := f.stages[c.id]
	delete(f.stages, c.id)
	if s == nil || len(s.Parts) != c.number || slices.ContainsFunc(s.Parts, func(p []byte) bool { return p == nil }) {
		return one, &object.Error{Code: object.CodeUnavailable, Message: "the leader changed while a large changeset was being sent; nothing of it was written", Hint: "Send it again."}
	}
	if err := object.Decode(bytes.Join(s.Parts, nil), &one); err != nil {
		return one, object.Errorf(object.CodeInvalid, object.Ref{}, "a large changeset cannot be read: %w", err)
	}
	return one, nil
}

func errTooLarge(size int) error {
	return &object.Error{Code: object.CodeTooLarge, Message: fmt.Sprintf("the changeset has %s; the limit is %s", object.Bytes(size).Human(), object.Bytes(maxStaged).Human()), Hint: "Split the configuration into several stacks."}
}

// image is a snapshot of the FSM.
type image struct {
	view   *state.Snapshot
	stages map[stageID]*stage
}

// Snapshot implements raft.FSM; it costs the same however large the state is.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.failure.Load(); err != nil {
		return nil, *err
	}
	i := &image{view: f.store.Load().Snapshot(), stages: make(map[stageID]*stage, len(f.stages))}
	for id, s := range f.stages {
		c := *s
		i.stages[id] = &c
	}
	return i, nil
}

type stageRecord struct {
	ID    []byte `json:"id"`
	Stage stage  `json:"stage"`
}

// write is version, the stages (length and CBOR), the state.
func (i *image) write(w io.Writer) error {
	records := make([]stageRecord, 0, len(i.stages))
	for _, id := range slices.SortedFunc(maps.Keys(i.stages), func(a, b stageID) int { return bytes.Compare(a[:], b[:]) }) {
		records = append(records, stageRecord{id[:], *i.stages[id]})
	}
	b, err := object.Encode(records)
	if err != nil {
		return err
	}
	head := binary.AppendUvarint([]byte{entryVersion}, uint64(len(b)))
	if _, err := w.Write(append(head, b...)); err != nil {
		return err
	}
	return state.Encode(w, i.view, Parallel)
}

func readImage(r io.Reader) (*state.Store, map[stageID]*stage, error) {
	br := bufio.NewReaderSize(r, 1<<20)
	version, err := br.ReadByte()
	if err != nil {
		return nil, nil, errors.New("the snapshot is empty")
	}
	if version != entryVersion {
		return nil, nil, fmt.Errorf("the snapshot has format %d and this version of Berth knows only %d: use a newer one", version, entryVersion)
	}
	n, err := binary.ReadUvarint(br)
	if err != nil || n > 4*maxStaged {
		return nil, nil, errors.New("the snapshot is damaged: its head is wrong")
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, br, int64(n)); err != nil {
		return nil, nil, errors.New("the snapshot is cut short")
	}
	var records []stageRecord
	if err := object.Decode(b.Bytes(), &records); err != nil {
		return nil, nil, fmt.Errorf("the snapshot is damaged: %w", err)
	}
	store, err := state.Decode(br, Parallel)
	if err != nil {
		return nil, nil, err
	}
	stages := make(map[stageID]*stage, len(records))
	for _, rec := range records {
		var id stageID
		copy(id[:], rec.ID)
		s := rec.Stage
		stages[id] = &s
	}
	return store, stages, nil
}

// Persist implements raft.FSMSnapshot; it runs beside Apply.
func (i *image) Persist(to raft.SnapshotSink) error {
	if err := i.write(to); err != nil {
		return errors.Join(err, to.Cancel())
	}
	return to.Close()
}

// Release implements raft.FSMSnapshot.
func (i *image) Release() {}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	store, stages, err := readImage(r)
	if err != nil {
		return err
	}
	f.store.Store(store)
	f.stages = stages
	f.events.cut(store.Snapshot().Index())
	f.applied.advance(store.Snapshot().Index())
	return nil
}
