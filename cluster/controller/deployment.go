package controller

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
	"github.com/berthdev/berth/cluster/state"
)

// deployments keep a replica set for each version and lead from one to the next.
type deployments struct{}

func (deployments) Name() string { return "deployment" }

func (deployments) Inputs() []Input {
	readers := func(v *state.Snapshot, e state.Event) []object.Ref {
		if e.Op == object.OpUpdate && object.ContentDigest(e.Before) == object.ContentDigest(e.After) {
			return nil
		}
		return slices.Collect(v.Readers(e.Ref, object.KindDeployment))
	}
	return []Input{
		{Kind: object.KindDeployment, Keys: self},
		{Kind: object.KindReplicaSet, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			if e.Part == object.PartStatus { // read only when a deadline has passed
				return nil
			}
			if owner := latest(e).Head().Owner; owner.Kind == object.KindDeployment {
				return []object.Ref{owner}
			}
			return nil
		}},
		{Kind: object.KindPod, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			if owner := latest(e).Head().Owner; owner.Kind == object.KindDeployment {
				return []object.Ref{owner} // a check's
			}
			rs, ok := state.Find[*object.ReplicaSet](v, latest(e).Head().Owner)
			if !ok || rs.Owner.Kind != object.KindDeployment {
				return nil
			}
			return []object.Ref{rs.Owner}
		}},
		{Kind: object.KindConfigMap, Keys: readers},
		{Kind: object.KindSecret, Keys: readers},
	}
}

func (deployments) Outputs() []object.Kind {
	return []object.Kind{object.KindDeployment, object.KindReplicaSet, object.KindPod, object.KindContent, object.KindEvent}
}

// version is a replica set of a deployment with its pods counted.
type version struct {
	set    *object.ReplicaSet
	counts rollout.Set
	ready  int
	rows   int // pods of any kind, ended ones included
	grace  object.Duration
	gen    int
}

// release is one look at a deployment.
type release struct {
	*work
	d        *object.Deployment
	versions []*version // newest generation first; see order
	wanted   *version   // nil if its set does not exist yet
	digest   string     // of the wanted version
	name     string     // of its set
	reads    reads
	status   object.DeploymentStatus
	finished bool // the wanted version is there
	found    analysis
	checkers []*object.Pod // pods of checks: all that are there
	turn     *turn         // of an update by zones
}

func (deployments) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("deployment", v, now)
	d, ok := state.Find[*object.Deployment](v, key)
	if !ok {
		return w.done()
	}
	r := &release{work: w, d: d, status: d.Status}
	for o := range v.Owned(key) {
		switch o := o.(type) {
		case *object.ReplicaSet:
			r.versions = append(r.versions, w.version(o, d.Spec.Update.MinReadyTime))
		case *object.Pod:
			r.checkers = append(r.checkers, o)
		}
	}
	r.order()
	if held := r.choose(); held != nil {
		r.hold(held)
	} else if r.adopt() {
		return w.done()
	} else {
		r.advance()
	}
	r.sweep()
	setStatus(w, d, &d.Status, &r.status)
	// The way of a canary, or from zone to zone, goes from status to status, one look
	// for each.
	u := &d.Spec.Update
	w.Done = r.finished && u.Strategy != "canary" && u.Strategy != "blue_green" && u.By == "" && w.onlyStatus(d.Ref())
	return w.done()
}

// order sorts the versions as they are to be kept: the newest first, for the oldest
// gives its pods up first. Where versions have weights, one that was replaced before it
// was proven has no connection any more, and goes before the one that has them all.
func (r *release) order() {
	last := func(x *version) int {
		if u := &r.d.Spec.Update; (u.Strategy == "canary" || u.Strategy == "blue_green") && x.set.Name == r.d.Status.Proven {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(r.versions, func(a, b *version) int {
		return cmp.Or(cmp.Compare(last(b), last(a)), cmp.Compare(b.gen, a.gen))
	})
}

func (w *work) version(rs *object.ReplicaSet, minReady object.Duration) *version {
	x := &version{set: rs, grace: rs.Spec.Pod.Grace}
	x.gen, _ = strconv.Atoi(rs.Annotations[object.AnnotationGeneration])
	x.counts.Size = rs.Spec.Replicas
	for p := range w.v.PodsOf(rs.Ref()) {
		x.rows++
		if p.Spec.Stop && !p.Terminal() {
			x.counts.Stopping++
		}
		if !live(p) {
			continue
		}
		// A pod that leaves its node is served by one more of its set, which
		// must not count as one too many.
		if rs.Spec.Replicas == 0 || !leaving(w.v, p) {
			x.counts.Pods++
		}
		if p.Status.Ready {
			x.ready++
		}
		ok, from := available(p, minReady, w.now)
		if ok {
			x.counts.Available++
		}
		w.wake(from)
	}
	return x
}

// choose finds the version that is wanted: the template together with what it
// reads, the contents that its images are pinned to and the last restart that was
// asked for. A set keeps all of it for life: pods that it makes a month later run the
// same bytes.
func (r *release) choose() *failure {
	t := r.d.Spec.Pod
	st := &r.d.Status
	if st.Observed == r.d.Version && st.Phase != object.RolloutPaused && len(t.ReadRefs(r.d.Namespace)) == 0 {
		for _, x := range r.versions {
			if x.set.Name == st.Set { // nothing can have changed since
				r.wanted, r.name = x, st.Set
				return nil
			}
		}
	}
	found, held := resolve(r.v, r.d.Namespace, &t)
	if held != nil {
		return held
	}
	r.reads = found
	t.Reads = found.rolling
	r.digest = versionOf(t, r.d)
	r.name = r.d.Name + "-" + r.digest[:6]
	for _, x := range r.versions {
		if x.set.Annotations[object.AnnotationVersion] == r.digest {
			r.wanted, r.name = x, x.set.Name
			return nil
		}
		if x.set.Name == r.name {
			r.name = r.d.Name + "-" + r.digest
		}
	}
	return nil
}

// versionOf names a version of a deployment by its template.
func versionOf(t object.PodTemplate, d *object.Deployment) string {
	return object.Digest(struct {
		Pod       object.PodTemplate
		Restarted time.Time
	}{t, d.Spec.Restarted.UTC()})
}

// hold is for a deployment whose version cannot even be told: nothing changes
// but the status.
func (r *release) hold(held *failure) {
	st := &r.status
	r.tally()
	if st.Observed != r.d.Version {
		st.Since, st.Progress = r.now, r.now
	}
	st.Observed = r.d.Version
	if st.Reason != held.reason || st.Message != held.message {
		r.fail(held)
	}
}

// tally puts the counts into the status.
func (r *release) tally() {
	st := &r.status
	st.Updated, st.Ready, st.Available = 0, 0, 0
	for _, x := range r.versions {
		st.Ready += x.ready
		st.Available += x.counts.Available
	}
	if r.wanted != nil {
		st.Updated = r.wanted.counts.Pods
	}
}

// advance takes the next step, if there is one, and says how far it is.
func (r *release) advance() {
	st, d := &r.status, r.d
	r.tally()
	in := r.input()
	fresh := st.Observed != d.Version || st.Set != r.name && !d.Spec.Paused ||
		st.Reason == object.ReasonConfig && r.broken() == nil // what it reads is there now
	if fresh {
		r.start(in)
	}
	if r.aborted() {
		r.back(in)
		return
	}
	r.steps(&in)
	step, endangered := r.keep(in, rollout.Next(in))
	if !endangered {
		st.HeldSince, st.HeldBy = time.Time{}, ""
	}
	if st.Phase != object.RolloutStable && st.Ready < st.Lowest {
		st.Lowest, st.LowestAt = st.Ready, r.now
	}
	if in.New.Available > st.Best {
		st.Best, st.Progress = in.New.Available, r.now
	}
	switch {
	case step.Done && r.wanted != nil && r.found.finding == nil && !r.found.open:
		r.finish()
		return
	case d.Spec.Paused:
		st.Phase = object.RolloutPaused
		r.resize(in, step)
		return
	case !fresh && st.Phase == object.RolloutStable:
		r.resize(in, step) // somebody has been at the sets; the version is proven
		return
	}
	if r.stuck(endangered) {
		return
	}
	if n := r.worn(); n > 0 {
		r.discard(in, n)
		return
	}
	if f := r.broken(); f != nil {
		r.fail(f)
		return
	}
	if f := r.found.finding; f != nil {
		if f.reason == object.ReasonInconclusive {
			r.unknown(f)
		} else {
			r.fail(f)
		}
		return
	}
	if endangered {
		r.held(step)
		return
	}
	st.Sized = d.Spec.Replicas
	if step.Changed || r.wanted == nil {
		st.Step++
		st.Progress = r.now
		r.resize(in, step)
	} else if r.displaced(step) {
		r.resize(in, step)
	}
	if (st.Canary == nil || st.Canary.Since.IsZero() || r.found.over) && !(step.Done && r.found.open) {
		r.deadline() // a pause is no lack of progress, and neither is a check
	}
}

func (r *release) input() rollout.Input {
	d := r.d
	in := rollout.Input{
		Want: d.Spec.Replicas, Surge: d.Spec.Update.Surge.Of(d.Spec.Replicas, true), Unavailable: d.Spec.Update.Unavailable.Of(d.Spec.Replicas, false),
		Recreate: d.Spec.Update.Strategy == "recreate", Paused: d.Spec.Paused, Scaled: d.Status.Sized != d.Spec.Replicas && d.Status.Observed != 0,
	}
	for _, x := range r.versions {
		if x == r.wanted {
			in.New = x.counts
		} else {
			in.Old = append(in.Old, x.counts)
		}
	}
	return in
}

// start begins a rollout, or begins to watch one anew after a change of the spec.
func (r *release) start(in rollout.Input) {
	st, d := &r.status, r.d
	r.again()
	if st.Set != r.name || st.Phase == object.RolloutStable || st.Phase == "" {
		if st.Set != "" && st.Set != r.name && !d.Spec.Paused {
			// Stable once is enough: it may have been paused, or unable to start
			// the next version, since.
			if r.name == st.Previous && st.Set == st.Proven {
				// The way back has no steps: they count as done.
				st.Canary = &object.CanaryStatus{Set: r.name, Step: max(1, len(d.Spec.Update.Steps))}
			}
			if st.Proven != "" && st.Proven != r.name {
				st.Previous = st.Proven
			}
			r.tell(d.Ref(), levelInfo, "rolling", "rolls from %s to %s", st.Set, r.name)
		}
		st.Since, st.Step = r.now, 0
		st.Lowest, st.LowestAt = st.Ready, r.now
	}
	if in.Scaled && st.Sized != 0 {
		r.tell(d.Ref(), levelInfo, "scaled", "scaled from %d to %d", st.Sized, d.Spec.Replicas)
	}
	st.Phase, st.Progress, st.Best = object.RolloutProgressing, r.now, in.New.Available
	st.Reason, st.Message, st.LastLog = "", "", nil
	st.Observed = d.Version
	if !d.Spec.Paused {
		st.Set = r.name
	}
}

// finish notes that the wanted version is there, and forgets versions beyond the
// history.
func (r *release) finish() {
	st, d := &r.status, r.d
	r.finished = true
	st.Set, st.Proven, st.Retried = r.wanted.set.Name, r.wanted.set.Name, time.Time{}
	if st.Phase != object.RolloutStable {
		if st.Previous != "" && st.Step > 0 {
			r.tell(d.Ref(), levelInfo, "rolled", "%s is complete: %s available", st.Set, plural(st.Available, "pod"))
		}
		st.Phase, st.Progress = object.RolloutStable, r.now
		st.Reason, st.Message, st.LastLog = "", "", nil
	}
	if d.Spec.Update.Strategy != "blue_green" {
		st.Canary = nil
	}
	st.Sized = d.Spec.Replicas
	r.resize(r.input(), rollout.Step{New: r.wanted.counts.Size}) // it may have to become the newest generation
	kept := 0
	for _, x := range r.versions {
		if x == r.wanted || x.counts.Size > 0 || x.rows > 0 {
			continue
		}
		if kept++; kept > d.Spec.History {
			r.because("%s keeps %s", d.Name, plural(d.Spec.History, "old version"))
			r.Changes.Delete(x.set)
		}
	}
}

// stuck reports whether the rollout has failed and waits for somebody to decide.
func (r *release) stuck(endangered bool) bool {
	st := &r.status
	if st.Reason == "" {
		return false
	}
	if r.cleared() {
		st.Phase, st.Progress = object.RolloutProgressing, r.now
		st.Reason, st.Message, st.LastLog = "", "", nil
		return false
	}
	// There is room now; or enough pods are ready, or the new ones will never be.
	if st.Reason == object.ReasonUnplaceable && r.broken() == nil || st.Reason == object.ReasonPromise && (!endangered || r.broken() != nil) {
		st.Phase, st.Progress = object.RolloutProgressing, r.now
		st.Reason, st.Message, st.LastLog = "", "", nil
		return false
	}
	return true
}

// broken is the first pod of the wanted version that shows that it will not come up.
func (r *release) broken() *failure {
	if r.wanted == nil {
		return nil
	}
	stopping := 0
	for _, x := range r.versions {
		stopping += x.counts.Stopping
	}
	for p := range r.v.PodsOf(r.wanted.set.Ref()) {
		f, failing, later := verdict(p, r.now)
		r.wake(later)
		if !failing || r.before(p) {
			continue
		}
		// Pods that stop make room; and a version that is served in full only wants
		// to move a pod off a node that is being drained.
		if f.reason == object.ReasonUnplaceable && (stopping > 0 || r.wanted.counts.Available >= r.wanted.counts.Size) {
			continue
		}
		return &f
	}
	return nil
}

// deadline fails the rollout if it has not come nearer to its end for too long.
func (r *release) deadline() {
	u := r.d.Spec.Update
	if u.ProgressDeadline == 0 {
		return
	}
	limit := u.ProgressDeadline.D() + u.MinReadyTime.D()
	for _, x := range r.versions {
		if x.counts.Stopping > 0 && u.Strategy == "recreate" {
			limit = max(limit, u.ProgressDeadline.D()+x.grace.D())
		}
	}
	end := r.status.Progress.Add(limit)
	if r.now.Before(end) {
		r.wake(end)
		return
	}
	available := 0
	var f failure
	if r.wanted != nil {
		available = r.wanted.counts.Available
		for p := range r.v.PodsOf(r.wanted.set.Ref()) {
			if live(p) && !p.Status.Ready {
				f = story(p)
				break
			}
		}
		if f.message == "" {
			f = lastFailure(r.wanted.set)
		}
	}
	f.reason = ReasonDeadline
	told := "no progress for " + object.Duration(limit).String() + ": " + strconv.Itoa(available) + " of " + plural(r.d.Spec.Replicas, "pod") + " available"
	f.message = strings.TrimSuffix(told+"; "+f.message, "; ")
	r.fail(&f)
}

// fail stops the rollout where it is; the revision controller, or a person,
// decides what follows.
func (r *release) fail(f *failure) {
	st := &r.status
	st.Phase = object.RolloutFailed
	if r.d.Spec.Update.OnFailure == "pause" {
		st.Phase = object.RolloutPaused
	}
	st.Reason, st.Message, st.LastLog = f.reason, f.message, f.log
	r.because("%s failed: %s", r.d.Name, f.reason)
	r.tell(r.d.Ref(), levelWarning, "rollout_failed", "%s: %s", f.reason, f.message)
}

// resize writes the sizes of a step; the wanted set is made if it is not there.
func (r *release) resize(in rollout.Input, step rollout.Step) {
	d := r.d
	r.status.Sized = d.Spec.Replicas
	newest := 0
	for _, x := range r.versions {
		newest = max(newest, x.gen)
	}
	i := 0
	for _, x := range r.versions {
		size := step.New
		if x != r.wanted {
			if i >= len(step.Old) {
				continue
			}
			size = step.Old[i]
			i++
		}
		promote := x == r.wanted && x.gen < newest && !d.Spec.Paused
		into, outOf := r.places(x, step, size)
		if size == x.counts.Size && !promote && x.placed(into, outOf) {
			continue
		}
		rs := x.set.Clone().(*object.ReplicaSet)
		rs.Spec.Replicas, rs.Spec.Into, rs.Spec.OutOf = size, into, outOf
		if promote {
			rs.Annotations = map[string]string{object.AnnotationVersion: x.set.Annotations[object.AnnotationVersion], object.AnnotationGeneration: strconv.Itoa(newest + 1)}
		}
		r.because("%s, step %d: %s from %d to %d", d.Name, r.status.Step, rs.Name, x.counts.Size, size)
		r.Changes.Update(x.set, rs)
	}
	if r.wanted == nil && !d.Spec.Paused {
		t := d.Spec.Pod
		t.Reads = r.reads.pinned
		r.pin(r.reads)
		r.because("%s, step %d: %s begins with %d", d.Name, r.status.Step, r.name, step.New)
		into, _ := r.places(nil, step, step.New)
		r.Changes.Create(&object.ReplicaSet{
			Meta: object.Meta{
				Kind: object.KindReplicaSet, Namespace: d.Namespace, Name: r.name, Labels: d.Labels, Stack: d.Stack, Owner: d.Ref(),
				Annotations: map[string]string{object.AnnotationVersion: r.digest, object.AnnotationGeneration: strconv.Itoa(newest + 1)},
			},
			Spec: object.ReplicaSetSpec{Replicas: step.New, Pod: t, Into: into},
		})
	}
	if len(in.Old) > 0 && step.Changed {
		r.tell(d.Ref(), levelInfo, "step", "step %d: %s", r.status.Step, r.sizes(step))
	}
}

// sizes tells a step: "web-7f9c21 2, web-51aa03 3".
func (r *release) sizes(step rollout.Step) string {
	out := []string{r.name + " " + strconv.Itoa(step.New)}
	i := 0
	for _, x := range r.versions {
		if x == r.wanted {
			continue
		}
		if i < len(step.Old) && (step.Old[i] > 0 || x.counts.Size > 0) {
			out = append(out, x.set.Name+" "+strconv.Itoa(step.Old[i]))
		}
		i++
	}
	return strings.Join(out, ", ")
}
