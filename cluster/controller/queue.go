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
	line        []task // line[head:] wait
	head        int
	last        []bool // by controller: its keys wait in tail
	tail        []task // let those in line go first
	waiting     map[task]bool
	alarms      alarmHeap
	alarmOf     map[task]*alarm
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

// NewQueue returns an empty queue for the controllers.
func NewQueue(controllers []Controller) *Queue {
	q := &Queue{controllers: controllers, inputs: map[object.Kind][]wiring{}, last: make([]bool, len(controllers)), waiting: map[task]bool{}, alarmOf: map[task]*alarm{}}
	for i, c := range controllers {
		for _, in := range c.Inputs() {
			q.inputs[in.Kind] = append(q.inputs[in.Kind], wiring{i, in.Keys})
		}
	}
	return q
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
	if len(q.waiting) == 0 {
		q.waiting = make(map[task]bool, n)
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
	own := task{q.number(c), key}
	set := q.waiting[own]
	q.waiting[own] = true // as if it waited already
	q.Observe(v, events)
	if !set {
		delete(q.waiting, own)
	}
}

func (q *Queue) observe(v *state.Snapshot, e state.Event) {
	for _, w := range q.inputs[e.Ref.Kind] {
		for _, key := range w.keys(v, e) {
			q.push(task{w.controller, key})
		}
	}
}

func (q *Queue) push(t task) {
	n := len(q.waiting)
	if q.waiting[t] = true; len(q.waiting) == n {
		return
	}
	if q.last[t.controller] {
		q.tail = append(q.tail, t)
	} else {
		q.line = append(q.line, t)
	}
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
		a := heap.Pop(&q.alarms).(*alarm)
		delete(q.alarmOf, a.task)
		q.push(a.task)
	}
	if q.head == len(q.line) {
		if len(q.tail) == 0 {
			return nil, object.Ref{}, false
		}
		q.line, q.tail, q.head = q.tail, q.line[:0], 0
	}
	t := q.line[q.head]
	q.head++
	if q.head == len(q.line) {
		q.line, q.head = q.line[:0], 0
	} else if q.head > 1024 && q.head > len(q.line)/2 {
		q.line, q.head = append(q.line[:0], q.line[q.head:]...), 0
	}
	delete(q.waiting, t)
	q.silence(t)
	return q.controllers[t.controller], t.key, true
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
	tk := task{i, key}
	q.silence(tk)
	if !t.IsZero() {
		q.set++
		a := &alarm{task: tk, at: t, seq: q.set}
		q.alarmOf[tk] = a
		heap.Push(&q.alarms, a)
	}
}

func (q *Queue) silence(t task) {
	if len(q.alarmOf) == 0 {
		return
	}
	if a, ok := q.alarmOf[t]; ok {
		heap.Remove(&q.alarms, a.index)
		delete(q.alarmOf, t)
	}
}

// NextWake is the time of the earliest alarm, false when none is set.
func (q *Queue) NextWake() (time.Time, bool) {
	if len(q.alarms) == 0 {
		return time.Time{}, false
	}
	return q.alarms[0].at, true
}

// alarm is a key that waits for a time.
type alarm struct {
	task  task
	at    time.Time
	seq   uint64
	index int
}

type alarmHeap []*alarm

func (h alarmHeap) Len() int { return len(h) }
func (h alarmHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *alarmHeap) Push(x any) {
	a := x.(*alarm)
	a.index = len(*h)
	*h = append(*h, a)
}
func (h *alarmHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	*h = old[:len(old)-1]
	return a
}
