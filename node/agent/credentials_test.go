package agent_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/fake"
)

// private is a template whose image wants the credentials of a secret's version.
func private(image, digest string) object.PodTemplate {
	t := one(image)
	t.Credentials = "registry"
	t.Reads = map[string]string{"secret/registry": digest}
	return t
}

// TestRegistryCredentials pulls a private image with the keys of the secret that
// the template names, as the masters reveal it.
func TestRegistryCredentials(t *testing.T) {
	const image = "registry.example/web:1"
	inBubble(t, fake.Script{image: {Password: "hunter2"}}, func(w *world) {
		w.m.put("default/secret.registry.good", map[string]string{"username": "alice", "password": "hunter2"})
		w.m.put("default/secret.registry.host", map[string]string{"username": "alice", "password": "hunter2", "registry": "registry.example"})
		w.m.put("default/secret.registry.foreign", map[string]string{"username": "alice", "password": "hunter2", "registry": "other.example"})
		w.m.put("default/secret.registry.wrong", map[string]string{"username": "alice", "password": "guess"})
		w.m.put("default/secret.registry.half", map[string]string{"username": "alice"})
		for _, c := range []struct{ name, digest, reason, says string }{
			{"wrong", "wrong", object.ReasonImagePull, "the registry refuses access"},
			{"foreign", "foreign", object.ReasonImagePull, "the registry refuses access"},
			{"half", "half", object.ReasonConfig, "keys username and password"},
			{"good", "good", "", ""},
			{"host", "host", "", ""},
		} {
			w.r.RemoveImage(image)
			ref := w.m.create(c.name, private(image, c.digest))
			if c.reason == "" {
				w.m.wait(t, ref, time.Minute, "ready", ready)
			} else if s := w.m.wait(t, ref, time.Second, c.reason, reason(c.reason)); !strings.Contains(s.Message, c.says) {
				t.Errorf("%s: message %q", c.name, s.Message)
			}
			w.m.remove(ref)
			synctest.Wait()
		}
	})
}

// TestPullBacksOff: an image that cannot be had now is asked for again, more and
// more slowly, and the pod comes up by itself when it can.
func TestPullBacksOff(t *testing.T) {
	const image = "registry.example/web:1"
	inBubble(t, fake.Script{image: {Password: "hunter2"}}, func(w *world) {
		w.m.put("default/secret.registry.wrong", map[string]string{"username": "alice", "password": "guess"})
		ref := w.m.create("p", private(image, "wrong"))
		w.m.wait(t, ref, time.Second, "image_pull", reason(object.ReasonImagePull))
		if why, failing := (&object.Pod{Status: w.m.status(ref)}).Failing(); failing {
			t.Errorf("%s makes a rollout give up at once", why)
		}
		w.r.Behave(image, fake.Behavior{})
		if s := w.m.wait(t, ref, 10*time.Minute, "ready", ready); s.Reason != "" {
			t.Errorf("reason %q stays", s.Reason)
		}
	})
}
