package object

import "cmp"

// What a new content of a config map or secret does to those who read it.
const (
	ReloadRestart = "restart" // they are new versions, and roll
	ReloadSignal  = "signal"  // running pods get the files, and their containers a signal
	ReloadNone    = "none"    // only new pods see it
)

// ReloadOf is what a new content of the object does; empty for kinds that have none.
func ReloadOf(o Object) string {
	switch x := o.(type) {
	case *ConfigMap:
		return cmp.Or(x.Spec.Reload, ReloadRestart)
	case *Secret:
		return cmp.Or(x.Spec.Reload, ReloadRestart)
	}
	return ""
}

// ConfigMapSpec is configuration as named texts.
type ConfigMapSpec struct {
	Data   map[string]string `json:"data,omitempty" hcl:"data" effect:"reloads" doc:"Texts by key; as a volume each key is a file."`
	Reload string            `json:"reload" hcl:"reload" default:"restart" enum:"restart,signal,none" doc:"restart: a new content rolls the deployments that read it. signal: running pods get the new files, and the containers that mount them their reload_signal. none: only new pods see it."`
}

// ConfigMap is configuration that pods read, versioned by content.
type ConfigMap struct {
	Meta `json:"meta"`
	Spec ConfigMapSpec `json:"spec"`
}

func (o *ConfigMap) SpecPtr() any   { return &o.Spec }
func (o *ConfigMap) StatusPtr() any { return nil }
func (o *ConfigMap) Clone() Object  { c := *o; return &c }

// SecretSpec is named values that are never shown.
type SecretSpec struct {
	Data   map[string]Sensitive `json:"data,omitempty" hcl:"data" effect:"reloads" doc:"Values by key; as a volume each key is a file in memory."`
	Reload string               `json:"reload" hcl:"reload" default:"restart" enum:"restart,signal,none" doc:"restart: a new content rolls the deployments that read it. signal: running pods get the new files, and the containers that mount them their reload_signal. none: only new pods see it."`
}

// Secret is a ConfigMap of values that are never shown.
type Secret struct {
	Meta `json:"meta"`
	Spec SecretSpec `json:"spec"`
}

func (o *Secret) SpecPtr() any   { return &o.Spec }
func (o *Secret) StatusPtr() any { return nil }
func (o *Secret) Clone() Object  { c := *o; return &c }

// ContentSpec is one immutable version of a config map's or a secret's data.
type ContentSpec struct {
	Of   Ref                  `json:"of"`
	Data map[string]string    `json:"data,omitempty"`
	Keys map[string]Sensitive `json:"keys,omitempty"` // of a secret; sealed
}

// Content is kept as long as a template reads it, so that a pod of an old
// version that restarts reads what it read before. Its name is
// ContentName(Of, digest).
type Content struct {
	Meta `json:"meta"`
	Spec ContentSpec `json:"spec"`
}

func (o *Content) SpecPtr() any   { return &o.Spec }
func (o *Content) StatusPtr() any { return nil }
func (o *Content) Clone() Object  { c := *o; return &c }
