package object

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// Fingerprint names all that an object says as configuration, what people did to
// it by hand included: Compare finds no difference between objects of equal
// fingerprints, and KeepOperational changes nothing. The reverse need not hold.
// Status, versions, owner and stack do not count.
func Fingerprint(o Object) string {
	m := o.Head()
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	err := canonical.MarshalToBuffer(struct {
		Kind           Kind              `json:"kind"`
		Namespace      string            `json:"namespace"`
		Name           string            `json:"name"`
		Labels         map[string]string `json:"labels,omitempty"`
		Annotations    map[string]string `json:"annotations,omitempty"`
		After          []Ref             `json:"after,omitempty"`
		PreventDestroy bool              `json:"prevent_destroy"`
		Spec           any               `json:"spec"`
	}{m.Kind, m.Namespace, m.Name, m.Labels, m.Annotations, m.After, m.PreventDestroy, o.SpecPtr()}, b)
	if err != nil {
		panic(fmt.Sprintf("object: %s cannot be encoded: %v", o.Ref(), err)) // all our kinds can
	}
	sum := sha256.Sum256(b.Bytes())
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// Claim is what a configuration wants to be so: an object, by its fingerprint.
// Without one the object is only asked for.
type Claim struct {
	Ref         Ref    `json:"ref"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// StackRequest asks how the masters' state differs from a stack's configuration.
type StackRequest struct {
	Claims []Claim `json:"claims"`
}

// StackState answers a StackRequest: what was so at Index.
type StackState struct {
	Index uint64 `json:"index"`
	// Same stands in the order of the claims: the version of an object that the
	// stack declares just as it is claimed, else 0.
	Same []uint64 `json:"same"`
	// Objects are the others of the claimed, as far as they exist, and what else
	// the stack declares, in whole; the stack itself is among them.
	Objects []Any `json:"objects"`
}
