package object

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// Any holds an object of any kind and knows how to encode itself: in JSON as
// the object (its meta.kind tells which), in CBOR as [kind, object].
type Any struct{ Object }

// IsZero reports whether nothing is held.
func (a Any) IsZero() bool { return a.Object == nil }

// MarshalJSON writes the object, or null.
func (a Any) MarshalJSON() ([]byte, error) { return json.Marshal(a.Object) }

// UnmarshalJSON reads an object by its meta.kind and refuses unknown fields.
func (a *Any) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		a.Object = nil
		return nil
	}
	if kind, ok := firstKind(b); ok {
		if o, err := decodeAs(kind, b); err == nil && o.Head().Kind == kind {
			a.Object = o
			return nil
		}
	}
	var head struct {
		Meta struct {
			Kind Kind `json:"kind"`
		} `json:"meta"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Errorf(CodeInvalid, Ref{}, "not an object: %w", err)
	}
	o, err := decodeAs(head.Meta.Kind, b)
	if err != nil {
		return err
	}
	a.Object = o
	return nil
}

// firstKind is the kind of an object as MarshalJSON writes it, where that is the
// first thing said: a listing of ten thousand is then read once, not twice.
func firstKind(b []byte) (Kind, bool) {
	rest, ok := bytes.CutPrefix(b, []byte(`{"meta":{"kind":"`))
	if !ok {
		return "", false
	}
	kind, _, ok := bytes.Cut(rest[:min(len(rest), 64)], []byte{'"'})
	if !ok || bytes.IndexByte(kind, '\\') >= 0 {
		return "", false
	}
	return Kind(kind), true
}

func decodeAs(kind Kind, b []byte) (Object, error) {
	o, err := New(kind)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(o); err != nil {
		return nil, Errorf(CodeInvalid, Ref{Kind: kind}, "not a valid %s: %w", kind, err)
	}
	return o, nil
}

type cborAny struct {
	_      struct{} `cbor:",toarray"`
	Kind   Kind
	Object cbor.RawMessage
}

// MarshalCBOR writes [kind, object].
func (a Any) MarshalCBOR() ([]byte, error) {
	if a.Object == nil {
		return []byte{0xf6}, nil // null
	}
	b, err := canonical.Marshal(a.Object)
	if err != nil {
		return nil, err
	}
	return canonical.Marshal(cborAny{Kind: a.Head().Kind, Object: b})
}

// UnmarshalCBOR reads what MarshalCBOR writes; unknown fields are ignored, so
// that an older master reads a newer one's log.
func (a *Any) UnmarshalCBOR(b []byte) error {
	if len(b) == 1 && b[0] == 0xf6 {
		a.Object = nil
		return nil
	}
	var c cborAny
	if err := cbor.Unmarshal(b, &c); err != nil {
		return err
	}
	o, err := New(c.Kind)
	if err != nil {
		return err
	}
	if err := Decode(c.Object, o); err != nil {
		return fmt.Errorf("%s: %w", c.Kind, err)
	}
	a.Object = o
	return nil
}

var canonical = func() cbor.EncMode {
	o := cbor.CanonicalEncOptions()
	o.Time = cbor.TimeRFC3339Nano
	o.TextMarshaler = cbor.TextMarshalerTextString
	m, err := o.EncMode()
	if err != nil {
		panic(err) // options are constants
	}
	return m
}()

var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		TextUnmarshaler: cbor.TextUnmarshalerTextString, MaxArrayElements: 1 << 24, MaxMapPairs: 1 << 24,
		DefaultMapType: reflect.TypeFor[map[string]any](), // values of outputs are JSON, which has no other maps
	}.DecMode()
	if err != nil {
		panic(err) // options are constants
	}
	return m
}()

// Encode is the canonical binary encoding (deterministic CBOR, RFC 8949 4.2):
// equal values give equal bytes. The Raft log, snapshots and digests use it.
func Encode(v any) ([]byte, error) { return canonical.Marshal(v) }

// Decode reads what Encode wrote.
func Decode(b []byte, v any) error { return decoding.Unmarshal(b, v) }

// Digest is a short stable name for a value's content: the first 10 hex digits
// of the SHA-256 of its canonical encoding.
func Digest(v any) string {
	b, err := Encode(v)
	if err != nil {
		panic(fmt.Sprintf("object: %T cannot be encoded: %v", v, err)) // all our values can
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:10]
}

// ContentName is the name of the Content that holds a version of r.
func ContentName(r Ref, digest string) string {
	return string(r.Kind) + "." + r.Name + "." + digest
}
