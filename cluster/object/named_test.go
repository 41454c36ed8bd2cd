package object_test

import (
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// What a hint tells to type has to work where it is typed.
func TestNamedHasTheNamespaceThatCommandsNeed(t *testing.T) {
	for namespace, want := range map[string]string{object.DefaultNamespace: "web", "shop": "-n shop web"} {
		d := object.Deployment{Meta: object.Meta{Namespace: namespace, Name: "web"}}
		if got := d.Named(); got != want {
			t.Errorf("in %s: %q, want %q", namespace, got, want)
		}
	}
}
