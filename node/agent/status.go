package agent

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/runtime/container"
)

// trouble is something that keeps a pod from being well.
type trouble struct{ reason, message string }

func (w *worker) trouble(what, reason, message string) {
	w.change(func(*object.PodStatus) { w.troubles[what] = trouble{reason, message} })
}

func (w *worker) fine(what string) {
	w.mu.Lock()
	_, was := w.troubles[what]
	w.mu.Unlock()
	if was {
		w.change(func(*object.PodStatus) { delete(w.troubles, what) })
	}
}

// change edits the status, under the lock, derives what follows from the parts,
// and queues it for the masters if anything is different. The channel is closed
// when they have it, or at once if there is nothing to tell.
func (w *worker) change(edit func(*object.PodStatus)) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.status
	s := before
	edit(&s)
	s.Containers = make([]object.ContainerStatus, 0, len(w.runners))
	running, ready := true, true
	for _, r := range w.runners {
		c := r.status
		c.Ready = r.ready && c.State == "running"
		s.Containers = append(s.Containers, c)
		if !r.init {
			running = running && r.started
			ready = ready && c.Ready
		}
	}
	if s.Phase == object.PodStarting && running && len(w.runners) > 0 {
		s.Phase = object.PodRunning
		if s.Started.IsZero() {
			s.Started = now()
		}
	}
	ready = ready && s.Phase == object.PodRunning && !w.stopping
	if ready != s.Ready {
		s.Ready = ready
		w.led = w.led || ready
		switch {
		case !ready:
			s.ReadySince = time.Time{}
		case s.ReadySince.IsZero():
			s.ReadySince = now()
		}
	}
	if s.Phase != object.PodStopping && s.Phase != object.PodStopped {
		s.Reason, s.Message = worst(w.troubles)
	}
	if s.Phase != before.Phase || s.Reason != before.Reason {
		s.Since = now()
	}
	same := reflect.DeepEqual(s, before)
	w.status = s
	select {
	case <-w.gone:
		same = true
	default:
	}
	if same {
		done := make(chan struct{})
		close(done)
		return done
	}
	w.a.touch()
	return w.a.reports.put(object.PodReport{Ref: w.pod.Ref(), Created: w.pod.Created, Status: s})
}

// order of reasons: what a rollout gives up for comes first.
var order = []string{object.ReasonConfig, object.ReasonImageNotFound, object.ReasonCrashLoop, object.ReasonOOM, object.ReasonImagePull, object.ReasonNodeResources}

func worst(troubles map[string]trouble) (string, string) {
	var out trouble
	rank := func(r string) int {
		if i := slices.Index(order, r); i >= 0 {
			return i
		}
		return len(order)
	}
	for _, what := range slices.Sorted(maps.Keys(troubles)) {
		if t := troubles[what]; out.reason == "" || rank(t.reason) < rank(out.reason) {
			out = t
		}
	}
	return out.reason, out.message
}

// report queues the status as it is: the masters have another one.
func (w *worker) report() {
	w.mu.Lock()
	s := w.status
	w.mu.Unlock()
	w.a.reports.put(object.PodReport{Ref: w.pod.Ref(), Created: w.pod.Created, Status: s})
}

// current is the status now.
func (w *worker) current() object.PodStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// differs reports whether the masters' status is not what the node would say.
func (w *worker) differs(s object.PodStatus) bool {
	mine := w.current()
	return object.Digest(mine) != object.Digest(s)
}

// explain turns an error into what the masters and people are told; soon means
// that it is not the pod's fault and will pass.
func explain(err error) (reason, message string, soon bool) {
	var image *container.ImageError
	var away *container.UnavailableError
	var own *object.Error
	var start *startError
	switch {
	case errors.As(err, &image):
		reason = object.ReasonImagePull
		if image.Fault == container.ImageNotFound || image.Fault == container.ImageAbsent || image.Fault == container.ImageInvalid {
			reason = object.ReasonImageNotFound
		}
		if image.Fault == container.ImageNoSpace {
			reason = object.ReasonNodeResources // the image is not to blame
		}
		message = err.Error()
		if image.Hint != "" {
			message += ". " + image.Hint
		}
		return reason, message, false
	case errors.As(err, &away):
		return object.ReasonNodeResources, err.Error(), true
	case errors.As(err, &own):
		switch own.Code {
		case object.CodeInvalid, object.CodeNotFound, object.CodeForbidden:
			return object.ReasonConfig, err.Error(), false
		}
		return "masters_away", err.Error(), true
	case isDiskFull(err):
		return object.ReasonNodeResources, "the node's disk is full: " + err.Error(), false
	}
	if errors.As(err, &start) {
		if start.times >= crashLoop {
			return object.ReasonCrashLoop, err.Error(), false
		}
		return "cannot_start", err.Error(), false
	}
	return "setup", err.Error(), false
}

// startError is a container that cannot be started.
type startError struct {
	container string
	times     int
	err       error
}

func (e *startError) Error() string {
	return fmt.Sprintf("container %s cannot be started: %v", e.container, e.err)
}

func (e *startError) Unwrap() error { return e.err }
