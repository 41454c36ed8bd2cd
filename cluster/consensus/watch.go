package consensus

import (
	"context"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Batch is what one Raft entry changed. All watchers share it.
type Batch struct {
	Index  uint64
	Events []state.Event
}

// cell is one link of the event log. A watcher is a cursor on the list: nothing
// is queued for it, and the garbage collector frees what nobody points at.
type cell struct {
	index uint64
	batch atomic.Pointer[Batch] // nil once it has fallen out of the log
	next  *cell                 // valid after ready is closed
	ready chan struct{}
}

func newCell(index uint64) *cell { return &cell{index: index, ready: make(chan struct{})} }

// eventLog is a linked list of the last events. One goroutine appends, any
// number follow.
type eventLog struct {
	mu     sync.Mutex
	limit  int     // events kept
	events int     // events held
	cells  []*cell // held, oldest first
	first  uint64  // resuming from an index below this is impossible
	open   bool    // false after a restore, until an entry tells where we are
	exact  uint64  // while not open, the one index to watch from: the restored state's
	tail   *cell   // the last cell; its batch may be of the past
	broken chan struct{}
}

func newEventLog(limit int) *eventLog {
	l := &eventLog{limit: limit, open: true, broken: make(chan struct{})}
	l.tail = newCell(0)
	return l
}

// append adds what an entry changed; an entry that changed nothing moves no one.
func (l *eventLog) append(index uint64, events []state.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		l.open, l.first = true, index-1
	}
	if len(events) == 0 {
		return
	}
	c := newCell(index)
	c.batch.Store(&Batch{Index: index, Events: events})
	l.tail.next = c
	close(l.tail.ready)
	l.tail = c
	l.cells = append(l.cells, c)
	l.events += len(events)
	for l.events > l.limit && len(l.cells) > 1 {
		old := l.cells[0]
		l.events -= len(old.batch.Load().Events)
		old.batch.Store(nil) // who still stands before it is told so, and holds no memory
		l.first = old.index
		l.cells[0] = nil
		l.cells = l.cells[1:]
	}
}

// cut forgets everything: the state was replaced by one of an index, which may be
// of another history. Every watcher has to list again.
func (l *eventLog) cut(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.cells {
		c.batch.Store(nil)
	}
	l.cells, l.events, l.open, l.exact = nil, 0, false, index
	l.tail = newCell(0)
	close(l.broken)
	l.broken = make(chan struct{})
}

func errGone() error {
	return &object.Error{Code: object.CodeGone, Message: "the events since that index are no longer kept", Hint: "List the objects again and watch from the index of that list."}
}

func (l *eventLog) watch(since uint64) (*Watcher, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if (l.open && since < l.first) || (!l.open && since != l.exact) {
		return nil, errGone()
	}
	w := &Watcher{since: since, broken: l.broken, at: l.tail}
	if i := sort.Search(len(l.cells), func(i int) bool { return l.cells[i].index > since }); i < len(l.cells) {
		// A cell that leads to the first one wanted.
		w.at = &cell{next: l.cells[i], ready: closed}
	}
	return w, nil
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Watcher follows the event log. It is used by one goroutine and needs no Close.
type Watcher struct {
	since  uint64
	at     *cell
	broken chan struct{}
}

// Next waits for the next batch. The error is the context's, or has CodeGone
// when the watcher lags too far or the state was restored from a snapshot.
func (w *Watcher) Next(ctx context.Context) (*Batch, error) {
	for {
		select {
		case <-w.at.ready:
		default:
			select {
			case <-w.at.ready:
			case <-w.broken:
				return nil, errGone()
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if b, err := w.step(); b != nil || err != nil {
			return b, err
		}
	}
}

// Poll is Next without waiting: nil when there is nothing new.
func (w *Watcher) Poll() (*Batch, error) {
	for {
		select {
		case <-w.at.ready:
		case <-w.broken:
			return nil, errGone()
		default:
			return nil, nil
		}
		if b, err := w.step(); b != nil || err != nil {
			return b, err
		}
	}
}

// Ready is closed when Poll would not answer nil. It is another channel after
// each batch.
func (w *Watcher) Ready() <-chan struct{} { return w.at.ready }

// Broken is closed when the state was replaced and Poll will answer CodeGone.
func (w *Watcher) Broken() <-chan struct{} { return w.broken }

func (w *Watcher) step() (*Batch, error) {
	next := w.at.next
	b := next.batch.Load()
	if b == nil {
		return nil, errGone()
	}
	w.at = next
	if b.Index <= w.since {
		return nil, nil // a follower that was behind the index asked for
	}
	w.since = b.Index
	return b, nil
}
