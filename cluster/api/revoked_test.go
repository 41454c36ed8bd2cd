package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

// TestRemovedNode: what a node's certificate opened it opens no more once the
// node has been removed, on any master and however it was removed; a machine that
// joins again under the name is welcome.
func TestRemovedNode(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	ref := func(name string) object.Ref { return object.Ref{Kind: object.KindNode, Name: name} }
	remove := map[string]func(*object.Node) error{
		"n1": func(n *object.Node) error { _, err := w.admin().Delete(ctx, n.Ref(), n.Version); return err },
		"n2": func(n *object.Node) error {
			var c object.Changeset
			c.Delete(n)
			_, err := w.admin().Propose(ctx, c)
			return err
		},
	}
	for name, away := range remove {
		id := w.identity(name, "node")
		var nodes []*client.Client
		for _, addr := range w.addrs {
			nodes = append(nodes, w.at(client.Config{Addrs: []string{addr}, TLS: id.ClientTLS("master", "")}))
		}
		report := object.Report{Node: name, Status: &object.NodeStatus{CPU: 1000}}
		if _, err := nodes[0].Report(ctx, report); err != nil {
			t.Fatal(err)
		}
		if err := away(w.get(ref(name)).(*object.Node)); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			_, err := n.Report(ctx, report)
			if e := wantCode(t, err, object.CodeForbidden); e.Hint == "" || e.By != "admin" {
				t.Errorf("%+v", e)
			}
			_, err = n.List(ctx, object.KindNode, client.ListOptions{Stale: true})
			wantCode(t, err, object.CodeForbidden)
			_, err = n.Renew(ctx, nil)
			wantCode(t, err, object.CodeForbidden)
		}
		if _, ok := w.shared.store.Snapshot().Get(ref(name)); ok {
			t.Errorf("%s has registered itself again", name)
		}
	}
	// Another node's certificate is as good as before.
	if _, err := w.as("n3", "node").Report(ctx, object.Report{Node: "n3"}); err != nil {
		t.Error(err)
	}
	// Removed last month, joined again since.
	var c object.Changeset
	c.Author, c.Time = "admin", time.Now().Add(-30*24*time.Hour)
	c.Create(&object.Token{Meta: object.Meta{Kind: object.KindToken, Name: "removed.n4"}, Spec: object.TokenSpec{Role: object.RoleNode, Uses: -1, Expires: time.Now().Add(time.Hour)}})
	w.propose(c)
	if _, err := w.as("n4", "node").Report(ctx, object.Report{Node: "n4"}); err != nil {
		t.Error(err)
	}
}

// TestStrangeChangesets: what only Berth itself writes has to make sense, too,
// and no way of writing leads past the checks.
func TestStrangeChangesets(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	negative := &object.ReplicaSet{Meta: object.Meta{Kind: object.KindReplicaSet, Namespace: "default", Name: "a"}}
	object.SetDefaults(&negative.Spec)
	negative.Spec.Replicas = -1
	negative.Spec.Pod.Containers = []object.Container{{Name: "a", Image: "a:1"}}
	object.SetDefaults(&negative.Spec.Pod.Containers[0])
	huge := negative.Clone().(*object.ReplicaSet)
	huge.Spec.Replicas = 1 << 40
	conf := object.Ref{Kind: object.KindConfigMap, Namespace: "default", Name: "a"}
	revision := func(change func(*object.Revision)) *object.Revision {
		r := &object.Revision{Meta: object.Meta{Kind: object.KindRevision, Name: "shop-1", Stack: "shop"}, Spec: object.RevisionSpec{Stack: "shop", Number: 1}}
		change(r)
		return r
	}
	for name, o := range map[string]object.Object{
		"negative replicas":    negative,
		"too many replicas":    huge,
		"content's short name": &object.Content{Meta: object.Meta{Kind: object.KindContent, Namespace: "default", Name: "x"}, Spec: object.ContentSpec{Of: conf}},
		"content of a pod":     &object.Content{Meta: object.Meta{Kind: object.KindContent, Namespace: "default", Name: "pod.a.x"}, Spec: object.ContentSpec{Of: object.Ref{Kind: object.KindPod, Namespace: "default", Name: "a"}}},
		"template's name":      &object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: "x"}, Spec: negative.Spec.Pod},
		"revision's name":      revision(func(r *object.Revision) { r.Spec.Number = 2 }),
		"revision's wave": revision(func(r *object.Revision) {
			r.Spec.Changes = []object.RevisionChange{{Ref: conf, Op: object.OpDelete, Wave: 1 << 40}}
		}),
		"revision's object": revision(func(r *object.Revision) {
			r.Spec.Changes = []object.RevisionChange{{Ref: conf, Op: object.OpUpdate, Wave: 1, After: object.Any{Object: negative}}}
		}),
		"stack's revision": &object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "s"}, Spec: object.StackSpec{Revision: -1}},
	} {
		for _, part := range []object.Part{"", object.PartStatus} {
			var c object.Changeset
			c.Create(o)
			c.Changes[0].Part = part
			want := object.CodeForbidden // nobody else writes it, strange or not
			if o.Ref().Kind == object.KindReplicaSet {
				want = object.CodeInvalid
			}
			if !object.Validate(o).HasErrors() {
				t.Errorf("%s: nothing is wrong with it", name)
			}
			if _, err := w.admin().Propose(ctx, c); !object.IsCode(err, want) {
				t.Errorf("%s, part %q: %v", name, part, err)
			}
		}
	}
}
