package controller

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// A queue, and its copy at any moment, serve keys and alarms as a plain list does.
func TestQueueAndItsCopies(t *testing.T) {
	type waiting struct {
		c   int
		key string
	}
	type alarm struct {
		waiting
		at time.Time
	}
	rapid.Check(t, func(t *rapid.T) {
		list := []Controller{echo("a"), echo("late"), echo("b")}
		q := NewQueue(list)
		q.Postpone("late")
		var line, tail []waiting
		var alarms []alarm
		now := epoch
		push := func(w waiting) {
			for _, x := range append(line, tail...) {
				if x == w {
					return
				}
			}
			if w.c == 1 {
				tail = append(tail, w)
			} else {
				line = append(line, w)
			}
		}
		silence := func(w waiting) {
			for i := range alarms {
				if alarms[i].waiting == w {
					alarms = append(alarms[:i:i], alarms[i+1:]...)
					return
				}
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w := waiting{rapid.IntRange(0, 2).Draw(t, "controller"), fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "key"))}
			ref := object.Ref{Kind: object.KindConfigMap, Namespace: "default", Name: w.key}
			event := state.Event{Op: object.OpUpdate, Ref: ref}
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				q.Observe(nil, []state.Event{event})
				for i := range list {
					push(waiting{i, w.key})
				}
			case 1:
				q.ObserveDone(nil, []state.Event{event}, list[w.c], ref)
				for i := range list {
					if i != w.c {
						push(waiting{i, w.key})
					}
				}
			case 2:
				at := now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "in")) * time.Second)
				q.WakeAt(list[w.c], ref, at)
				silence(w)
				i := len(alarms)
				for i > 0 && alarms[i-1].at.After(at) {
					i--
				}
				alarms = append(alarms[:i:i], append([]alarm{{w, at}}, alarms[i:]...)...)
			case 3:
				now = now.Add(time.Second)
			case 4:
				q = q.Clone()
			case 5:
				for len(alarms) > 0 && !alarms[0].at.After(now) {
					push(alarms[0].waiting)
					alarms = alarms[1:]
				}
				if len(line) == 0 {
					line, tail = tail, nil
				}
				c, key, ok := q.Next(now)
				if ok != (len(line) > 0) || ok && (c != list[line[0].c] || key.Name != line[0].key) {
					t.Fatalf("next is %v %v %v, not the first of %v", c, key, ok, line)
				}
				if ok {
					silence(line[0])
					line = line[1:]
				}
			}
			at, ok := q.NextWake()
			if q.Len() != len(line)+len(tail) || ok != (len(alarms) > 0) || ok && !at.Equal(alarms[0].at) {
				t.Fatalf("%d wait and %v is next, not %v %v %v", q.Len(), at, line, tail, alarms)
			}
		}
	})
}

// What is forgotten stood for nothing: a long life does not fill a queue.
func TestQueueForgets(t *testing.T) {
	a := echo("a")
	q := NewQueue([]Controller{a})
	for i := range 10_000 {
		r := object.Ref{Kind: object.KindConfigMap, Namespace: "default", Name: fmt.Sprint(i)}
		q.Observe(nil, []state.Event{{Op: object.OpUpdate, Ref: r}})
		if i%1000 == 0 {
			q.WakeAt(a, r, epoch.Add(time.Hour))
		}
		q.Next(epoch)
	}
	if len(q.slots) > 2000 {
		t.Errorf("%d keys are known", len(q.slots))
	}
}
