package controller

import (
	"container/heap"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Queue says whose turn it is. A key waits at most once for each controller,
// keys are served in the order in which they began to wait, and alarms join the
// line when they are due. The same calls give the same order. It is not safe for
// concurrent use.
type Queue struct {
	controllers []Controller
	inputs      map[object.Kind][]wiring
	line        []*slot // line[head:] wait
	head        int
	last        []bool  // by controller: its keys wait in tail
	tail        []*slot // let those in line go first
	slots       map[task]*slot
	alarms      alarmHeap
	set         uint64 // alarms set so far; breaks ties
}

type wiring struct {
	controller int
	keys       func(*state.Snapshot, state.Event) []object.Ref
}

type task struct {
	controller int
	key        object.Ref
}

// slot is a key that waits, or has an alarm, or did a moment ago.
type slot struct {
	task
	waiting bool
	alarm   int // its place among the alarms, plus one; 0: none
	at      time.Time
	seq     uint64
}

// NewQueue returns an empty queue for the controllers.
func NewQueue(controllers []Controller) *Queue {
	q := &Queue{controllers: controllers, inputs: map[object.Kind][]wiring{}, last: make([]bool, len(controllers)), slots: map[task]*slot{}}
	for i, c := range controllers {
		for _, in := range c.Inputs() {
			q.inputs[in.Kind] = append(q.inputs[in.Kind], wiring{i, in.Keys})
		}
	}
	return q
}

// Clone is a queue in which the same keys wait and the same alarms are set.
func (q *Queue) Clone() *Queue {
	c := &Queue{controllers: q.controllers, inputs: q.inputs, last: slices.Clone(q.last), slots: make(map[task]*slot, q.Len()+len(q.alarms)), set: q.set}
	same := func(list []*slot) []*slot {
		out := make([]*slot, len(list))
		for i, s := range list {
			if c.slots[s.task] == nil {
				x := *s
				c.slots[s.task] = &x
			}
			out[i] = c.slots[s.task]
		}
		return out
	}
	c.line, c.tail, c.alarms = same(q.line[q.head:]), same(q.tail), same(q.alarms)
	return c
}

// Postpone lets the keys of a controller wait until no others do: one that looks at
// the work of all the others looks once then, not after each batch of them. It must
// not be asked of a queue that never comes to rest.
func (q *Queue) Postpone(name string) {
	for i, c := range q.controllers {
		q.last[i] = q.last[i] || c.Name() == name
	}
}

// Rested reports whether none wait but the keys that are postponed.
func (q *Queue) Rested() bool { return q.head == len(q.line) }

// Seed makes every key wait that any object of the snapshot could wake. A new
// leader calls it once; nothing else needs to be handed over.
func (q *Queue) Seed(v *state.Snapshot) {
	n := 0
	for kind := range q.inputs {
		n += v.Count(kind)
	}
	if len(q.slots) == 0 {
		q.slots = make(map[task]*slot, n)
	}
	q.line = slices.Grow(q.line, n)
	for _, info := range object.Kinds() {
		if len(q.inputs[info.Kind]) == 0 {
			continue
		}
		for o := range v.List(info.Kind) {
			q.observe(v, state.Event{Index: v.Index(), Op: object.OpCreate, Ref: o.Ref(), After: o})
		}
	}
}

// Observe makes the keys wait that the events wake; v is the state after them.
func (q *Queue) Observe(v *state.Snapshot, events []state.Event) {
	for i := range events {
		q.observe(v, events[i])
	}
}

// ObserveDone is Observe for the events of a changeset that was a key's last word,
// see Result.Done: they wake all but that key.
func (q *Queue) ObserveDone(v *state.Snapshot, events []state.Event, c Controller, key object.Ref) {
	own := q.slot(task{q.number(c), key})
	waits := own.waiting
	own.waiting = true // as if it did already
	q.Observe(v, events)
	own.waiting = waits
}

func (q *Queue) observe(v *state.Snapshot, e state.Event) {
	for _, w := range q.inputs[e.Ref.Kind] {
		for _, key := range w.keys(v, e) {
			q.push(q.slot(task{w.controller, key}))
		}
	}
}

func (q *Queue) slot(t task) *slot {
	s := q.slots[t]
	if s == nil {
		s = &slot{task: t}
		q.slots[t] = s
	}
	return s
}

func (q *Queue) push(s *slot) {
	switch {
	case s.waiting:
		return
	case q.last[s.controller]:
		q.tail = append(q.tail, s)
	default:
		q.line = append(q.line, s)
	}
	s.waiting = true
}

// forget drops the slots that stand for nothing any more, now and then: keys come
// back soon or never.
func (q *Queue) forget() {
	if len(q.slots) < 1024+2*(q.Len()+len(q.alarms)) {
		return
	}
	kept := make(map[task]*slot, q.Len()+len(q.alarms))
	for _, list := range [][]*slot{q.line[q.head:], q.tail, q.alarms} {
		for _, s := range list {
			kept[s.task] = s
		}
	}
	q.slots = kept
}

// number is a controller's place among the queue's.
func (q *Queue) number(c Controller) int {
	return slices.IndexFunc(q.controllers, func(known Controller) bool { return known == c || known.Name() == c.Name() })
}

// Next takes the key whose turn it is, alarms that are due at now included. The
// key's alarm, if one is set, is dropped: the coming Reconcile answers with a new
// one if it needs it. It is false when nothing waits.
func (q *Queue) Next(now time.Time) (Controller, object.Ref, bool) {
	for len(q.alarms) > 0 && !q.alarms[0].at.After(now) {
		q.push(heap.Pop(&q.alarms).(*slot))
	}
	if q.head == len(q.line) {
		if len(q.tail) == 0 {
			return nil, object.Ref{}, false
		}
		clear(q.line)
		q.line, q.tail, q.head = q.tail, q.line[:0], 0
	}
	s := q.line[q.head]
	q.line[q.head] = nil
	q.head++
	if q.head == len(q.line) {
		q.line, q.head = q.line[:0], 0
	} else if q.head > 1024 && q.head > len(q.line)/2 {
		n := copy(q.line, q.line[q.head:])
		clear(q.line[n:])
		q.line, q.head = q.line[:n], 0
	}
	s.waiting = false
	q.silence(s)
	q.forget()
	return q.controllers[s.controller], s.key, true
}

// Len is how many keys wait, alarms not counted.
func (q *Queue) Len() int { return len(q.line) - q.head + len(q.tail) }

// WakeAt makes the key wait from t on. A key has one alarm for each controller:
// a new one replaces the old, a zero t only drops it.
func (q *Queue) WakeAt(c Controller, key object.Ref, t time.Time) {
	i := q.number(c)
	if i < 0 {
		return
	}
	if t.IsZero() {
		if s := q.slots[task{i, key}]; s != nil {
			q.silence(s)
		}
		return
	}
	s := q.slot(task{i, key})
	q.silence(s)
	q.set++
	s.at, s.seq = t, q.set
	heap.Push(&q.alarms, s)
}

func (q *Queue) silence(s *slot) {
	if s.alarm > 0 {
		heap.Remove(&q.alarms, s.alarm-1)
	}
}

// NextWake is the time of the earliest alarm, false when none is set.
func (q *Queue) NextWake() (time.Time, bool) {
	if len(q.alarms) == 0 {
		return time.Time{}, false
	}
	return q.alarms[0].at, true
}

// alarmHeap is the keys that wait for a time, the earliest first.
type alarmHeap []*slot

func (h alarmHeap) Len() int { return len(h) }
func (h alarmHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].alarm, h[j].alarm = i+1, j+1
}
func (h *alarmHeap) Push(x any) {
	s := x.(*slot)
	*h = append(*h, s)
	s.alarm = len(*h)
}
func (h *alarmHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	s.alarm = 0
	return s
}
