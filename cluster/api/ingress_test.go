package api_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// ingressWorld has an ingress that reads two secrets, a third that nothing reads,
// and three nodes of which one serves ingresses.
func ingressWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "m1")
	secret := func(name string, data map[string]string) *object.Secret {
		ref := object.Ref{Kind: object.KindSecret, Namespace: "shop", Name: name}
		s := &object.Secret{Meta: object.Meta{Kind: ref.Kind, Namespace: ref.Namespace, Name: name}, Spec: object.SecretSpec{Data: map[string]object.Sensitive{}}}
		for k, v := range data {
			sealed, err := w.keys.Seal(ref, k, v)
			if err != nil {
				t.Fatal(err)
			}
			s.Spec.Data[k] = sealed
		}
		return s
	}
	node := func(name string, labels map[string]string) *object.Node {
		return &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name, Labels: labels}, Status: object.NodeStatus{Condition: object.NodeReady, Attributes: map[string]string{"ingress": "true"}}}
	}
	w.write(
		secret("tls", map[string]string{"certificate": "chain", "key": "the private key"}), secret("users", map[string]string{"eve": "hunter2"}), secret("db", map[string]string{"password": "s3cret"}),
		&object.Ingress{Meta: object.Meta{Kind: object.KindIngress, Namespace: "shop", Name: "front"}, Spec: object.IngressSpec{Host: "shop.example",
			TLS: &object.IngressTLS{Secret: "tls"}, BasicAuth: &object.BasicAuth{Secret: "users"}, Paths: []object.IngressPath{{Path: "/", Service: "web"}}}},
		&object.Ingress{Meta: object.Meta{Kind: object.KindIngress, Namespace: "shop", Name: "early"}, Spec: object.IngressSpec{Host: "early.example", TLS: &object.IngressTLS{Secret: "later"}}},
		node("edge", map[string]string{object.LabelIngress: "true"}), node("plain", nil), node("off", map[string]string{object.LabelIngress: "false"}),
	)
	return w
}

func TestIngressSecrets(t *testing.T) {
	w := ingressWorld(t)
	ctx := context.Background()
	got, err := w.as("edge", "node").IngressSecrets(ctx, "shop", "front")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Secrets) != 2 || got.Secrets["tls"].Data["key"] != "the private key" || got.Secrets["users"].Data["eve"] != "hunter2" {
		t.Errorf("%+v", got)
	}
	tls := w.get(object.Ref{Kind: object.KindSecret, Namespace: "shop", Name: "tls"})
	if got.Secrets["tls"].Digest != object.ContentDigest(tls) {
		t.Error("the digest is not that of the status")
	}
	// A secret that is not there yet is left out.
	if got, err := w.as("edge", "node").IngressSecrets(ctx, "shop", "early"); err != nil || len(got.Secrets) != 0 {
		t.Errorf("%+v %v", got, err)
	}
	_, err = w.as("edge", "node").IngressSecrets(ctx, "shop", "none")
	wantCode(t, err, object.CodeNotFound)
	_, err = w.as("edge", "node").IngressSecrets(ctx, "other", "front")
	wantCode(t, err, object.CodeNotFound)
	// Who may not: other nodes, whatever they say of themselves, and every other role.
	for _, who := range [][2]string{{"plain", "node"}, {"off", "node"}, {"unknown", "node"}, {"ann", "admin"}, {"pat", "planner"}, {"m1", "master"}, {"edge", "admin"}} {
		_, err := w.as(who[0], who[1]).IngressSecrets(ctx, "shop", "front")
		if e := wantCode(t, err, object.CodeForbidden); strings.Contains(e.Error(), "private key") {
			t.Error(e)
		}
	}
	// An ingress node gets secrets here and nowhere else.
	_, err = w.as("edge", "node").Get(ctx, object.Ref{Kind: object.KindSecret, Namespace: "shop", Name: "tls"})
	wantCode(t, err, object.CodeForbidden)
}

// TestIngressLabel: a node cannot make itself an ingress node; a token can, for a
// node that joins for the first time and for one that was there before.
func TestIngressLabel(t *testing.T) {
	w := ingressWorld(t)
	ctx := context.Background()
	labels := func(name string) map[string]string {
		return w.get(object.Ref{Kind: object.KindNode, Name: name}).(*object.Node).Labels
	}
	report := func(name string) {
		t.Helper()
		_, err := w.as(name, "node").Report(ctx, object.Report{Node: name, Status: &object.NodeStatus{Attributes: map[string]string{object.LabelIngress: "true"}},
			Labels: map[string]string{object.LabelIngress: "true", "zone": "a"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"liar", "plain"} {
		report(name)
		if labels(name)[object.LabelIngress] != "" {
			t.Errorf("%s gave itself the label: %v", name, labels(name))
		}
		_, err := w.as(name, "node").IngressSecrets(ctx, "shop", "front")
		wantCode(t, err, object.CodeForbidden)
	}
	if labels("liar")["zone"] != "a" {
		t.Errorf("its other labels are lost: %v", labels("liar"))
	}

	token := w.token(object.TokenRequest{Role: object.RoleNode, Labels: map[string]string{object.LabelIngress: "true", "zone": "edge"}})
	for _, name := range []string{"fresh", "plain"} {
		if _, _, err := w.join(token.Token, name, object.RoleNode); err != nil {
			t.Fatal(err)
		}
	}
	report("fresh")
	for _, name := range []string{"fresh", "plain"} {
		if l := labels(name); l[object.LabelIngress] != "true" || l["zone"] != "edge" {
			t.Errorf("%s: %v", name, l)
		}
		if _, err := w.as(name, "node").IngressSecrets(ctx, "shop", "front"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// It is given once: a node that was removed and comes back by itself has it no more.
	kept := w.get(object.Ref{Kind: object.KindToken, Name: token.ID}).(*object.Token)
	if slices.Contains(kept.Spec.Nodes, "fresh") {
		t.Error("the label would be given again")
	}
	var c object.Changeset
	c.Author = "test"
	c.Delete(w.get(object.Ref{Kind: object.KindNode, Name: "fresh"}))
	w.propose(c)
	report("fresh")
	if l := labels("fresh"); l[object.LabelIngress] != "" {
		t.Errorf("%v", l)
	}
	// Labels are for nodes.
	_, err := w.admin().CreateToken(ctx, object.TokenRequest{Role: object.RoleAdmin, Labels: map[string]string{"a": "b"}})
	wantCode(t, err, object.CodeInvalid)
	if b, err := json.Marshal(kept); err != nil || !strings.Contains(string(b), `"labels":{"berth/ingress":"true"`) {
		t.Errorf("%s %v", b, err)
	}
}
