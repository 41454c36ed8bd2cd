package object

import (
	"reflect"
	"time"
)

// Object is a thing the cluster holds. Objects are immutable once they are in a
// state.Snapshot: who wants to change one makes a Clone, changes that and
// proposes it.
type Object interface {
	Ref() Ref
	Head() *Meta
	// SpecPtr and StatusPtr give generic code (diff, decode, schema) the two
	// halves; StatusPtr is nil for kinds without a status.
	SpecPtr() any
	StatusPtr() any
	// Clone is a copy whose Meta, Spec and Status can be assigned to; maps and
	// slices below are shared and must be replaced, not written into.
	Clone() Object
}

// Meta is what every object carries. The fields from Version down are set by
// state.Apply; what a writer puts there is ignored.
type Meta struct {
	Kind           Kind              `json:"kind"`
	Namespace      string            `json:"namespace,omitempty"`
	Name           string            `json:"name"`
	Labels         map[string]string `json:"labels,omitempty"`
	Annotations    map[string]string `json:"annotations,omitempty"`
	Stack          string            `json:"stack,omitempty"` // the configuration that declares it, or that declares its owner
	Owner          Ref               `json:"owner,omitzero"`  // the object whose controller made it; it goes with its owner
	After          []Ref             `json:"after,omitempty"` // objects that must be healthy before this one changes
	PreventDestroy bool              `json:"prevent_destroy,omitempty"`

	Version       uint64    `json:"version,omitempty"`        // Raft index of the last change of Meta or Spec
	StatusVersion uint64    `json:"status_version,omitempty"` // Raft index of the last change of Status
	Created       uint64    `json:"created,omitempty"`        // Raft index of the creation; tells incarnations of one name apart
	CreatedAt     time.Time `json:"created_at,omitzero"`
	ChangedAt     time.Time `json:"changed_at,omitzero"` // of Version
	ChangedBy     string    `json:"changed_by,omitempty"`
	ChangedWhy    string    `json:"changed_why,omitempty"`
	// Edits are what people did to a declared object past its stack.
	Edits []Edit `json:"edits,omitempty"`
}

// Ref is the object's address.
func (m *Meta) Ref() Ref { return Ref{Kind: m.Kind, Namespace: m.Namespace, Name: m.Name} }

// Head gives generic code the Meta of any object.
func (m *Meta) Head() *Meta { return m }

// HasLabels reports whether have carries all of want.
func HasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			return false
		}
	}
	return true
}

// CopySpec copies all but the status of one object to another of the same kind.
func CopySpec(to, from Object) {
	*to.Head() = *from.Head()
	if src := from.SpecPtr(); src != nil {
		reflect.ValueOf(to.SpecPtr()).Elem().Set(reflect.ValueOf(src).Elem())
	}
}

// CopyStatus copies the status of one object to another of the same kind; false
// if the kind has none.
func CopyStatus(to, from Object) bool {
	dst, src := to.StatusPtr(), from.StatusPtr()
	if dst == nil || src == nil {
		return false
	}
	reflect.ValueOf(dst).Elem().Set(reflect.ValueOf(src).Elem())
	return true
}
