package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// refuses breaks one rule with every change of a config map.
type refuses struct{ enforcement string }

func (refuses) Check(*object.Policy) object.Diagnostics { return nil }
func (refuses) Foresees([]*object.Policy) bool          { return false }
func (r refuses) Judge(all []*object.Policy, p *object.Plan, _ string) []object.PolicyVerdict {
	var out []object.PolicyVerdict
	for _, c := range p.Changes {
		if c.Ref.Kind == object.KindConfigMap && len(all) > 0 {
			out = append(out, object.PolicyVerdict{Policy: all[0].Name, Rule: "none", Enforcement: r.enforcement, Address: c.Address, Message: "no"})
		}
	}
	return out
}

func TestNoWriteGoesPastAPolicy(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	was := configMap("default", "a", nil)
	w.write(was, &object.Policy{Meta: object.Meta{Kind: object.KindPolicy, Name: "p"}, Spec: object.PolicySpec{Source: "x"}})
	admin := w.admin()
	sealed, err := admin.Plan(ctx, cmPlan("settings")) // while nothing refuses it
	if err != nil {
		t.Fatal(err)
	}
	w.servers["m1"].Policies = refuses{object.PolicyHard}
	index := w.shared.store.Snapshot().Index()
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed})
	wantCode(t, err, object.CodePolicy)
	_, err = admin.Create(ctx, configMap("default", "b", nil))
	wantCode(t, err, object.CodePolicy)
	_, err = admin.Put(ctx, configMap("default", "a", map[string]string{"k": "v"}))
	wantCode(t, err, object.CodePolicy)
	_, err = admin.Delete(ctx, was.Ref(), 0)
	wantCode(t, err, object.CodePolicy)
	var c object.Changeset
	c.Create(configMap("default", "b", nil))
	_, err = admin.Propose(ctx, c)
	wantCode(t, err, object.CodePolicy)
	if w.shared.store.Snapshot().Index() != index {
		t.Error("something was written")
	}
	w.servers["m1"].Policies = refuses{object.PolicyAdvisory}
	if _, err := admin.Create(ctx, configMap("default", "b", nil)); err != nil {
		t.Error(err)
	}
}

// What the masters make of plans is not written past the plans: a revision or a
// template of somebody's own would bring in what a policy refuses.
func TestOnlyMastersWriteRevisions(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	for _, o := range []object.Object{
		&object.Revision{Meta: object.Meta{Kind: object.KindRevision, Name: "shop-1"}, Spec: object.RevisionSpec{Stack: "shop", Number: 1}},
		&object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "shop"}},
		&object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: "x"}},
		&object.Content{Meta: object.Meta{Kind: object.KindContent, Namespace: "default", Name: "x"}},
	} {
		var c object.Changeset
		c.Create(o)
		_, err := w.admin().Propose(ctx, c)
		wantCode(t, err, object.CodeForbidden)
	}
}

// calm refuses whatever changes a kind, or would stop pods by its forecast.
type calm struct {
	kind  object.Kind
	looks bool
}

func (calm) Check(*object.Policy) object.Diagnostics { return nil }
func (c calm) Foresees(all []*object.Policy) bool    { return c.looks && len(all) > 0 }
func (c calm) Judge(all []*object.Policy, p *object.Plan, _ string) []object.PolicyVerdict {
	hit := c.looks && p.Forecast.Stop > 0
	for _, x := range p.Changes {
		hit = hit || x.Ref.Kind == c.kind
	}
	if !hit || len(all) == 0 {
		return nil
	}
	return []object.PolicyVerdict{{Policy: all[0].Name, Rule: "calm", Enforcement: object.PolicyHard, Message: "no"}}
}

// Whatever is done to a deployment or a node, by a plan of an operation or by the
// write that a command makes of it, is judged.
func TestOperationsAreJudged(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	web := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web"}, Spec: object.DeploymentSpec{Replicas: 2, Pod: object.PodTemplate{Containers: []object.Container{{Name: "c", Image: "app:1"}}}}}
	object.SetDefaults(&web.Spec)
	object.SetDefaults(&web.Spec.Pod.Containers[0])
	w.write(web, readyNode("n1", "x:1"), &object.Policy{Meta: object.Meta{Kind: object.KindPolicy, Name: "p"}, Spec: object.PolicySpec{Source: "x"}})
	admin := w.admin()
	operations := map[string]*object.Operation{
		"drain":   {Name: object.OperationDrain, On: []object.Ref{{Kind: object.KindNode, Name: "n1"}}},
		"restart": {Name: object.OperationRestart, On: []object.Ref{web.Ref()}},
		"scale":   {Name: object.OperationScale, On: []object.Ref{web.Ref()}, Replicas: []int{5}},
	}
	sealed := map[string]*object.Plan{}
	for name, o := range operations { // while nothing refuses them
		p, err := admin.Plan(ctx, &object.Plan{Cause: o.Name, Operation: o})
		if err != nil {
			t.Fatal(name, err)
		}
		sealed[name] = p
	}
	index := w.shared.store.Snapshot().Index()
	for name, o := range operations {
		kind := object.KindDeployment
		if name == "drain" {
			kind = object.KindNode
		}
		w.servers["m1"].Policies = calm{kind: kind}
		p, err := admin.Plan(ctx, &object.Plan{Cause: o.Name, Operation: o})
		if err != nil || len(p.Verdicts) != 1 {
			t.Errorf("%s: the plan says %+v %v", name, p, err)
		}
		_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed[name]})
		wantCode(t, err, object.CodePolicy)
	}
	w.servers["m1"].Policies = calm{kind: object.KindDeployment}
	for name, change := range map[string]func(*object.Deployment){
		"scale":   func(d *object.Deployment) { d.Spec.Replicas = 5 },
		"restart": func(d *object.Deployment) { d.Restart(d.ChangedAt) },
		"pause":   func(d *object.Deployment) { d.Spec.Paused = true },
		"promote": func(d *object.Deployment) { d.Spec.Promoted = "web-1/1" },
		"abort":   func(d *object.Deployment) { d.Spec.Aborted = "web-1" },
		"retry":   func(d *object.Deployment) { d.Spec.Retries++ },
	} {
		_, err := client.Update(ctx, admin, web.Ref(), func(d *object.Deployment) error { change(d); return nil })
		if !object.IsCode(err, object.CodePolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	undo := cmPlan("settings")
	undo.Cause, undo.Target = "undo", 1
	w.servers["m1"].Policies = calm{kind: object.KindConfigMap}
	p, err := admin.Plan(ctx, undo)
	if err != nil {
		t.Fatal(err)
	}
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *p})
	wantCode(t, err, object.CodePolicy)
	if w.shared.store.Snapshot().Index() != index {
		t.Error("something was written")
	}
}

// A rule about the forecast has single writes rehearsed: as what they are, on the
// state at hand, and only when there is such a rule.
func TestSingleWritesAreRehearsedForPolicies(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	w.write(configMap("default", "a", nil), &object.Policy{Meta: object.Meta{Kind: object.KindPolicy, Name: "p"}, Spec: object.PolicySpec{Source: "x"}})
	var rehearsed []*object.Plan
	stops := 0
	w.plan = func(_ context.Context, v *state.Snapshot, p *object.Plan, _ time.Time) (object.Forecast, error) {
		rehearsed = append(rehearsed, p)
		return object.Forecast{Index: v.Index(), Outcome: "healthy", Stop: stops}, nil
	}
	put := func(text string) error {
		_, err := w.admin().Put(ctx, configMap("default", "a", map[string]string{"k": text}))
		return err
	}
	w.servers["m1"].Policies = calm{}
	if err := put("1"); err != nil || len(rehearsed) != 0 {
		t.Errorf("rehearsed for nobody: %v %v", rehearsed, err)
	}
	w.servers["m1"].Policies = calm{looks: true}
	if err := put("2"); err != nil || len(rehearsed) != 1 {
		t.Fatalf("%v %v", rehearsed, err)
	}
	x := rehearsed[0]
	if x.Cause != object.CauseWrite || x.Stack != "" || len(x.Changes) != 1 || x.Changes[0].After.Object.(*object.ConfigMap).Spec.Data["k"] != "2" || x.Changes[0].Before.Object.(*object.ConfigMap).Spec.Data["k"] != "1" {
		t.Errorf("%+v", x)
	}
	stops = 3
	index := w.shared.store.Snapshot().Index()
	wantCode(t, put("3"), object.CodePolicy)
	_, err := w.admin().Delete(ctx, configMap("default", "a", nil).Ref(), 0)
	wantCode(t, err, object.CodePolicy)
	if w.shared.store.Snapshot().Index() != index {
		t.Error("something was written")
	}
	// A plan's own forecast counts while nothing was written since; then a fresh one does.
	stops = 0
	p, err := w.admin().Plan(ctx, cmPlan("settings"))
	if err != nil {
		t.Fatal(err)
	}
	n := len(rehearsed)
	w.write(configMap("default", "unrelated", nil))
	stops = 3
	_, err = w.admin().Apply(ctx, object.ApplyRequest{Plan: *p})
	wantCode(t, err, object.CodePolicy)
	if len(rehearsed) != n+1 || rehearsed[n].Cause == object.CauseWrite {
		t.Errorf("%d rehearsals", len(rehearsed)-n)
	}
	bogus := cmPlan("x")
	bogus.Cause = object.CauseWrite
	_, err = w.admin().Plan(ctx, bogus)
	wantCode(t, err, object.CodeInvalid)
}

// Nor is what a deployment's sets and pods run written past the deployment.
func TestWhatIsOwnedIsWrittenByItsOwnerOnly(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	runs := func(image string) object.PodTemplate {
		pod := object.PodTemplate{Containers: []object.Container{{Name: "main", Image: image, Pull: "missing", StopSignal: "SIGTERM", Seccomp: "default"}}}
		object.SetDefaults(&pod)
		return pod
	}
	d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web"}, Spec: object.DeploymentSpec{Replicas: 1, Pod: runs("app:1")}}
	set := func(image string) *object.ReplicaSet {
		return &object.ReplicaSet{Meta: object.Meta{Kind: object.KindReplicaSet, Namespace: "default", Name: "web-1", Owner: d.Ref()}, Spec: object.ReplicaSetSpec{Replicas: 1, Pod: runs(image)}}
	}
	template := &object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: object.Digest(runs("app:1"))}, Spec: runs("app:1")}
	row := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: "web-1-0", Owner: set("").Ref()}, Spec: object.PodSpec{Template: template.Name}}
	w.write(d, set("app:1"), template, row)
	admin := w.admin()
	of := func(o object.Object) object.Object {
		o.Head().Owner = object.Ref{}
		return o
	}
	other := row.Clone().(*object.Pod)
	evil := runs("evil:1")
	other.Spec.Pod, other.Spec.Template = &evil, ""
	for _, o := range []object.Object{set("evil:1"), other} {
		var c object.Changeset
		was, _ := w.shared.store.Snapshot().Get(o.Ref())
		c.Update(was, o)
		_, err := admin.Propose(ctx, c)
		wantCode(t, err, object.CodeForbidden)
		_, err = admin.Put(ctx, of(o.Clone()))
		wantCode(t, err, object.CodeForbidden)
	}
	forged := set("evil:1")
	forged.Name = "web-2"
	var c object.Changeset
	c.Create(forged)
	_, err := admin.Propose(ctx, c)
	wantCode(t, err, object.CodeForbidden)

	// What it runs stays, and the rest may be written.
	fewer := of(set("app:1")).(*object.ReplicaSet)
	fewer.Spec.Replicas = 0
	if _, err := admin.Put(ctx, fewer); err != nil {
		t.Error(err)
	}
	if _, err := admin.Delete(ctx, row.Ref(), 0); err != nil {
		t.Error(err)
	}
}
