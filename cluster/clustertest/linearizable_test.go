package clustertest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// The register that the history is checked against: read, write, and
// compare-and-set by version, which is what a changeset is.
type input struct {
	op       string // read, set
	value    string
	expected string // what set believes to replace
}

type output struct {
	value   string
	refused bool
	unknown bool // no answer: it may have happened, at any time from then on
}

var register = porcupine.Model{
	Init: func() any { return "0" },
	Step: func(s, in, out any) (bool, any) {
		now, i, o := s.(string), in.(input), out.(output)
		if i.op == "read" {
			return o.value == now, now
		}
		switch {
		case o.unknown: // porcupine may also place it after everything else, which is never
			if now == i.expected {
				return true, i.value
			}
			return true, now
		case o.refused:
			return now != i.expected, now
		}
		return now == i.expected, i.value
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// Concurrent changesets on one object, and linearizable reads of it through all
// masters, while the network is cut and masters are killed.
func TestChangesetsAreLinearizable(t *testing.T) {
	c := Start(t, Options{NoAPI: true, Disk: true})
	ctx := testContext(t)
	if _, err := c.Propose(ctx, create(configMap("r", "0"))); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var history []porcupine.Operation
	began := time.Now()
	record := func(client int, in input, do func() (output, bool)) {
		call := time.Since(began).Nanoseconds()
		out, answered := do()
		ret := time.Since(began).Nanoseconds()
		if !answered {
			if in.op == "read" {
				return
			}
			ret = int64(1) << 62
		}
		mu.Lock()
		defer mu.Unlock()
		history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: ret})
	}
	running, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	next := 1000 // ids of clients after an unknown answer: its operation never returned
	for w := range 5 {
		clients.Go(func() {
			id := w
			pace := time.NewTicker(time.Millisecond) // bounds the length of the history
			defer pace.Stop()
			for i := 0; running.Err() == nil; i++ {
				m := c.Master(fmt.Sprintf("m%d", i%3+1))
				if m == nil {
					continue
				}
				short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
				var seen *object.ConfigMap
				record(id, input{op: "read"}, func() (output, bool) {
					if m.Barrier(short) != nil {
						return output{}, false
					}
					seen, _ = state.Find[*object.ConfigMap](m.Snapshot(), configMap("r", "").Ref())
					return output{value: seen.Spec.Data["v"]}, true
				})
				if seen != nil && i%3 == 0 {
					in := input{op: "set", value: fmt.Sprintf("%d.%d", w, i), expected: seen.Spec.Data["v"]}
					unknown := false
					after := seen.Clone().(*object.ConfigMap)
					after.Spec.Data = map[string]string{"v": in.value}
					cs := object.Changeset{Author: "w"}
					cs.Update(seen, after)
					var err error
					record(id, in, func() (output, bool) {
						_, err = m.Propose(short, cs)
						switch object.CodeOf(err) {
						case object.CodeConflict:
							return output{refused: true}, true
						case object.CodeNoLeader, object.CodeUnavailable, object.CodeTimeout, object.CodeInternal:
							if err != nil {
								unknown = true
								return output{unknown: true}, false
							}
						}
						return output{}, true
					})
					if unknown {
						mu.Lock()
						id = next
						next++
						mu.Unlock()
					}
				}
				cancel()
				<-pace.C
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(history) }
	more := func(n int) {
		from := count()
		c.Eventually("the clients go on", func() bool { return count() >= from+n })
	}
	for round := range 6 {
		more(60)
		leader := c.Leader()
		switch round % 3 {
		case 0: // the leader alone on one side
			var rest []string
			for _, m := range c.Masters() {
				if m != leader {
					rest = append(rest, m)
				}
			}
			c.Partition(rest, []string{leader})
			c.Eventually("another leads", func() bool {
				for _, m := range rest {
					if c.Leads(m) {
						return true
					}
				}
				return false
			})
			more(40)
			c.Heal()
		case 1:
			c.Kill(leader)
			more(40)
			c.Restart(leader)
		case 2:
			c.Stop(leader)
			more(40)
			c.Restart(leader)
		}
	}
	stop()
	clients.Wait()
	result := porcupine.CheckOperationsTimeout(register, history, time.Minute)
	if result == porcupine.Illegal {
		t.Fatalf("%d operations are not linearizable", len(history))
	}
	t.Logf("%d operations: %s", len(history), result)
	c.SameEverywhere()
}
