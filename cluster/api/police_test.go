package api_test

import (
	"context"
	"testing"

	"github.com/berthdev/berth/cluster/object"
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
