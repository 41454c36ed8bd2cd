package controller

import (
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// TestIngressFollowsItsSecrets: the status names the version of each secret, and
// what is missing, whatever of them changes.
func TestIngressFollowsItsSecrets(t *testing.T) {
	w := newWorld(t, 1)
	meta := func(k object.Kind, name string) object.Meta {
		return object.Meta{Kind: k, Namespace: "default", Name: name}
	}
	secret := func(digest string, keys ...string) *object.Secret {
		s := &object.Secret{Meta: meta(object.KindSecret, "tls"), Spec: object.SecretSpec{Data: map[string]object.Sensitive{}, Reload: "restart"}}
		for _, k := range keys {
			s.Spec.Data[k] = object.Sensitive{Digest: digest + k, Sealed: []byte("x")}
		}
		return s
	}
	service := func(port string) *object.Service {
		return &object.Service{Meta: meta(object.KindService, "web"), Spec: object.ServiceSpec{Type: "headless", Selector: map[string]string{"app": "web"}, Ports: []object.ServicePort{{Name: port, Port: 80, Protocol: "tcp"}}}}
	}
	o := &object.Ingress{Meta: meta(object.KindIngress, "shop"), Spec: object.IngressSpec{Host: "shop.example",
		TLS: &object.IngressTLS{Secret: "tls"}, BasicAuth: &object.BasicAuth{Secret: "users"}, Paths: []object.IngressPath{{Path: "/", Service: "web", Port: "http"}}}}
	w.put(o)
	now := func() object.IngressStatus {
		t.Helper()
		w.settled()
		x, ok := state.Find[*object.Ingress](w.view(), o.Ref())
		if !ok {
			t.Fatal("it is gone")
		}
		return x.Status
	}
	want := func(message ...string) object.IngressStatus {
		t.Helper()
		s := now()
		for _, m := range message {
			if !strings.Contains(s.Message, m) {
				t.Fatalf("%q does not say %q", s.Message, m)
			}
		}
		if len(message) == 0 && s.Message != "" {
			t.Fatalf("%q", s.Message)
		}
		return s
	}
	if s := want("secret tls does not exist", "secret users does not exist", `There is no service "web"`); s.Secrets != nil {
		t.Errorf("%v", s.Secrets)
	}
	w.put(service("other"))
	want(`Service web has no port "http"; it has "other" (80)`)
	w.put(service("http"))
	first := secret("a", object.TLSCertificate)
	w.put(first)
	users := secret("u", "eve")
	users.Name = "users"
	w.put(users)
	s := want(`secret tls has no key "key"`)
	if s.Secrets["tls"] != object.ContentDigest(first) || s.Secrets["users"] != object.ContentDigest(users) {
		t.Errorf("%v", s.Secrets)
	}
	second := secret("b", object.TLSCertificate, object.TLSKey)
	w.put(second)
	if s := want(); s.Secrets["tls"] != object.ContentDigest(second) || s.Secrets["tls"] == object.ContentDigest(first) {
		t.Errorf("%v", s.Secrets)
	}
}
