package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// unsurged rolls one pod at a time and starts no more than it has to: each step
// stops a ready pod first.
func unsurged(d *object.Deployment) {
	_ = d.Spec.Update.Surge.UnmarshalText([]byte("0"))
	_ = d.Spec.Update.Unavailable.UnmarshalText([]byte("1"))
}

// promising is a rollout whose plan promised so many ready pods of web's four.
func promising(t *testing.T, least int) (*world, int) {
	w := started(t, web("ok:1", 4, unsurged))
	n := w.commit(one(web("ok:2", 4, unsurged)))
	edit(w, revisionRef("shop", n), func(r *object.Revision) {
		r.Spec.Promise = []object.Availability{{Workload: ref(object.KindDeployment, "web"), Ready: least, Want: 4}}
	})
	return w, n
}

func TestAPromiseThatAllowsTheStepsIsNoticedByNobody(t *testing.T) {
	w, n := promising(t, 3)
	w.awaits(n, object.RevisionHealthy)
	if r := w.revision(n); !r.Held() || len(r.Status.Lowest) != 1 || r.Status.Lowest[0].Ready != 3 {
		t.Errorf("held %v: %+v", r.Held(), r.Status.Lowest)
	}
}

func TestAStepBelowThePromiseIsNotTaken(t *testing.T) {
	w, n := promising(t, 4)
	w.watch = func(*state.Snapshot) {
		if ready := w.deployment("web").Status.Ready; ready < 4 {
			w.t.Fatalf("%d of 4 ready", ready)
		}
	}
	w.awaits(n, object.RevisionPaused)
	st := w.deployment("web").Status
	if st.Phase != object.RolloutPaused || st.Reason != object.ReasonPromise || st.HeldBy != w.revision(n).Name || !strings.Contains(st.Message, "3 of 4") {
		t.Errorf("deployment: %+v", st)
	}
	if r := w.revision(n).Status; r.Reason != object.ReasonPromise || r.Message != st.Message {
		t.Errorf("revision: %+v", r)
	}
	w.rest(time.Hour)
	if got := w.livePods("web"); len(got) != 1 || len(got["ok:1"]) != 4 {
		t.Errorf("it went on: %v", got)
	}
	// A person may give the promise up, of this revision only.
	w.watch = nil
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Released = d.Status.HeldBy })
	w.awaits(n, object.RevisionHealthy)
	if r := w.revision(n); r.Held() || len(r.Broken()) != 1 || r.Broken()[0].Ready != 3 {
		t.Errorf("the truth is not told: %+v", r.Status.Lowest)
	}
	next := w.commit(one(web("ok:3", 4, unsurged)))
	edit(w, revisionRef("shop", next), func(r *object.Revision) { r.Spec.Promise = w.revision(n).Spec.Promise })
	w.awaits(next, object.RevisionPaused)
}

func TestARolloutGoesOnWhenThePromiseAllowsIt(t *testing.T) {
	w, n := promising(t, 4)
	w.awaits(n, object.RevisionPaused)
	// Somebody lets it run more pods than it has to.
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { _ = d.Spec.Update.Surge.UnmarshalText([]byte("1")) })
	w.awaits(n, object.RevisionHealthy)
	if r := w.revision(n); !r.Held() {
		t.Errorf("%+v", r.Status)
	}
}

func TestAFailedVersionGoesBackWhateverWasPromised(t *testing.T) {
	w := started(t, web("ok:1", 4))
	n := w.commit(one(web("missing:2", 4)))
	edit(w, revisionRef("shop", n), func(r *object.Revision) {
		r.Spec.Promise = []object.Availability{{Workload: ref(object.KindDeployment, "web"), Ready: 4, Want: 4}}
	})
	w.awaits(n, object.RevisionReverted)
}
