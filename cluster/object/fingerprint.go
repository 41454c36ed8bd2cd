package object

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"reflect"
	"time"
)

// Fingerprint names all that a stack says of an object, what people did to it by hand
// included: Compare finds no difference between objects of equal fingerprints, and
// KeepOperational changes nothing. The reverse need not hold. Status and versions do
// not count, and neither do the contents that images are pinned to: a configuration
// does not know them, and what it leaves as it is stays pinned. Who leads back to pins
// of another time has them in what they claim, and is sent the object.
func Fingerprint(o Object) string {
	c := WithPins(o, nil).Clone()
	Bare(c)
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	if err := canonical.MarshalToBuffer(c, b); err != nil {
		panic(fmt.Sprintf("object: %s cannot be encoded: %v", o.Ref(), err)) // all our kinds can
	}
	return FingerprintOf(b.Bytes())
}

// Encoding is Encode of an object, which cannot fail.
func Encoding(o Object) []byte {
	b, err := Encode(o)
	if err != nil {
		panic(fmt.Sprintf("object: %s cannot be encoded: %v", o.Ref(), err)) // all our kinds can
	}
	return b
}

// FingerprintOf is the fingerprint of a bare object by its encoding.
func FingerprintOf(encoding []byte) string {
	sum := sha256.Sum256(encoding)
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// Bare takes from an object of one's own what no configuration says and state.Apply
// sets: status, versions, who changed it.
func Bare(o Object) {
	if st := o.StatusPtr(); st != nil {
		reflect.ValueOf(st).Elem().SetZero()
	}
	m := o.Head()
	m.Version, m.StatusVersion, m.Created = 0, 0, 0
	m.CreatedAt, m.ChangedAt = time.Time{}, time.Time{}
	m.ChangedBy, m.ChangedWhy, m.Edits = "", "", nil
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
