package planner

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func limited(q object.Quota) *object.Namespace {
	return &object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: "default"}, Spec: object.NamespaceSpec{Quota: &q}}
}

// taken is what the pods of a namespace ask for, counted anew.
func taken(v *state.Snapshot) (q object.Quota) {
	for p := range state.All[*object.Pod](v, object.KindPod, state.InNamespace("default")) {
		q = plus(q, share(p), 1)
	}
	return q
}

func surge(n int) func(*object.Deployment) {
	return func(d *object.Deployment) {
		d.Spec.Update.Surge, d.Spec.Update.Unavailable = object.Amount{N: n}, object.Amount{N: 1 - n}
	}
}

func TestQuotaIsHeldAgainstThePeak(t *testing.T) {
	for _, x := range []struct {
		name          string
		quota         object.Quota
		surge         int
		peak, need    int // pods; need 0: nothing is kept back
		unplaced      int
		says, outcome string
	}{
		{name: "room for the surge", quota: object.Quota{Pods: 6}, surge: 1, peak: 6, outcome: OutcomeHealthy},
		{name: "no room while old pods end", quota: object.Quota{Pods: 5}, surge: 1, peak: 5, need: 6, outcome: OutcomeHealthy},
		{name: "no room for the surge", quota: object.Quota{Pods: 4}, surge: 1, peak: 4, need: 5, unplaced: 1, says: "needs 5 pods", outcome: OutcomeFailed},
		{name: "no cpu for the surge", quota: object.Quota{CPU: 450}, surge: 1, peak: 4, need: 5, unplaced: 1, says: "needs 500m cpu", outcome: OutcomeFailed},
		{name: "one less for a moment", quota: object.Quota{Pods: 4}, surge: 0, peak: 4, need: 5, outcome: OutcomeHealthy},
		{name: "a quota of something else", quota: object.Quota{Memory: 1 << 40}, surge: 1, peak: 6, outcome: OutcomeHealthy},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newCluster(t, 2)
			web := func(image string) *object.Deployment {
				return sized(deployment("web", image, 4, surge(x.surge)), 100, 1<<20)
			}
			c.apply(c.plan(request(limited(x.quota), web("web:1"))), time.Second)
			p := c.plan(request(limited(x.quota), web("web:2")))
			f := p.Forecast
			if f.Outcome != x.outcome || len(f.Unplaced) != x.unplaced {
				t.Fatalf("%s: %s %+v", f.Outcome, f.Reason, f.Unplaced)
			}
			if len(f.Namespaces) != 1 || f.Namespaces[0].Peak.Pods != x.peak || f.Namespaces[0].Peak.CPU != object.CPU(100*x.peak) || *f.Namespaces[0].Quota != x.quota {
				t.Fatalf("%+v", f.Namespaces)
			}
			need := f.Namespaces[0].Need
			if (need == nil) != (x.need == 0) || need != nil && need.Pods != x.need {
				t.Errorf("need %+v", need)
			}
			if x.unplaced > 0 && (!strings.Contains(f.Unplaced[0].Reason, x.says) || !strings.HasPrefix(f.Unplaced[0].Pod.Name, "web-")) {
				t.Errorf("%+v", f.Unplaced)
			}
		})
	}
}

// What was kept back before is no fault of an operation.
func TestQuotaThatWasFullBefore(t *testing.T) {
	c := newCluster(t, 2)
	c.apply(c.plan(request(limited(object.Quota{Pods: 3}), deployment("web", "web:1", 2), deployment("api", "api:1", 1))), time.Second)
	more := &object.Operation{Name: object.OperationScale, On: []object.Ref{{Kind: object.KindDeployment, Namespace: "default", Name: "web"}}, Replicas: []int{4}}
	c.carryOutOperation(more, func(*state.Snapshot) {})
	p := object.Plan{Operation: &object.Operation{Name: object.OperationRestart, On: []object.Ref{{Kind: object.KindDeployment, Namespace: "default", Name: "api"}}}}
	f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
	for _, u := range f.Unplaced {
		if strings.HasPrefix(u.Pod.Name, "web-") {
			t.Errorf("%+v", u)
		}
	}
}

// The peak is the highest of what is counted after every write, in rollouts of
// several workloads that share a quota.
func TestPeaksOfNamespacesAreWhatIsCounted(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			c := newCluster(t, 3)
			v1, v2 := []object.Object{limited(object.Quota{Pods: 40})}, []object.Object{limited(object.Quota{Pods: 40})}
			for i := range 1 + r.IntN(3) {
				name, pods, cpu := fmt.Sprintf("d%d", i), 1+r.IntN(4), object.CPU(50+r.IntN(100))
				v1 = append(v1, sized(deployment(name, "i:1", pods), cpu, 0))
				v2 = append(v2, sized(deployment(name, "i:2", pods), cpu, 0))
			}
			c.apply(c.plan(request(v1...)), time.Second)
			p := c.plan(request(v2...))
			peak := taken(c.store.Snapshot())
			fork := c.store.Snapshot().Fork()
			x := newRehearsal(nil, fork, &p, c.now, NodeModel{}, object.InOrder)
			counted := func() { peak = most(peak, taken(fork.Snapshot())) }
			if !x.begin(&p) {
				t.Fatal(x.reason)
			}
			for !x.ended() {
				for x.queue.Len() > 0 || x.due() {
					x.reconcile()
					counted()
				}
				if res := x.scheduler.Place(x.fork.Snapshot(), x.now, 0); !res.Changes.Empty() {
					if err := x.apply(stamped(res.Changes, "scheduler", x.now)); err != nil {
						t.Fatal(err)
					}
					counted()
					continue
				}
				next, ok := x.next()
				if !ok {
					break
				}
				x.now = next
				x.report()
				counted()
			}
			if got := p.Forecast.Namespaces; len(got) != 1 || got[0].Peak != peak || got[0].Need != nil {
				t.Errorf("%+v, counted %+v", got, peak)
			}
		})
	}
}
