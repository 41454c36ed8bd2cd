package object

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

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
	if err := unmarshalStrictly(b, o); err != nil {
		return nil, Errorf(CodeInvalid, Ref{Kind: kind}, "not a valid %s: %w", kind, err)
	}
	return o, nil
}

// unmarshalStrictly is json.Unmarshal that refuses unknown fields.
func unmarshalStrictly(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// MarshalCBOR writes [kind, object].
func (a Any) MarshalCBOR() ([]byte, error) {
	if a.Object == nil {
		return null, nil
	}
	kind := string(a.Head().Kind)
	if len(kind) > shortText {
		return nil, Errorf(CodeInvalid, a.Ref(), "a kind has %d characters at most", shortText)
	}
	var b bytes.Buffer
	b.WriteByte(pairHead)
	b.WriteByte(textHead + byte(len(kind)))
	b.WriteString(kind)
	if err := canonical.MarshalToBuffer(a.Object, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// The heads of an array of two and of a text short enough to stand in its head.
const (
	pairHead  = 0x82
	textHead  = 0x60
	shortText = 23
)

var null = cbor.RawMessage{0xf6}

// UnmarshalCBOR reads what MarshalCBOR writes; unknown fields are ignored, so
// that an older master reads a newer one's log.
func (a *Any) UnmarshalCBOR(b []byte) error {
	if len(b) == 1 && b[0] == null[0] {
		a.Object = nil
		return nil
	}
	if len(b) < 2 || b[0] != pairHead || b[1] < textHead || b[1] > textHead+shortText || len(b) < 2+int(b[1]-textHead) {
		return Errorf(CodeInvalid, Ref{}, "not an object: it does not begin with its kind")
	}
	end := 2 + int(b[1]-textHead)
	kind := Kind(b[2:end])
	o, err := New(kind)
	if err != nil {
		return err
	}
	if err := Decode(b[end:], o); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	a.Object = o
	return nil
}

var canonical = func() cbor.UserBufferEncMode {
	o := cbor.CanonicalEncOptions()
	o.Time = cbor.TimeRFC3339Nano
	o.TextMarshaler = cbor.TextMarshalerTextString
	m, err := o.UserBufferEncMode()
	if err != nil {
		panic(err) // options are constants
	}
	return m
}()

var (
	decoding = decodingWith(cbor.ExtraDecErrorNone)
	strict   = decodingWith(cbor.ExtraDecErrorUnknownField)
)

// decodingWith reads values of no fixed type as JSON would: outputs go on to it.
func decodingWith(extra cbor.ExtraDecErrorCond) cbor.DecMode {
	m, err := cbor.DecOptions{
		TextUnmarshaler: cbor.TextUnmarshalerTextString, MaxArrayElements: 1 << 24, MaxMapPairs: 1 << 24,
		DefaultMapType: reflect.TypeFor[map[string]any](), ExtraReturnErrors: extra,
	}.DecMode()
	if err != nil {
		panic(err) // options are constants
	}
	return m
}

// Encode is the canonical binary encoding (deterministic CBOR, RFC 8949 4.2):
// equal values give equal bytes. The Raft log, snapshots and digests use it.
func Encode(v any) ([]byte, error) { return canonical.Marshal(v) }

// Decode reads what Encode wrote.
func Decode(b []byte, v any) error { return decoding.Unmarshal(b, v) }

// Digest is a short stable name for a value's content: the first 10 hex digits
// of the SHA-256 of its canonical encoding.
func Digest(v any) string {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	if err := canonical.MarshalToBuffer(v, b); err != nil {
		panic(fmt.Sprintf("object: %T cannot be encoded: %v", v, err)) // all our values can
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:5])
}

// buffers are for encodings of which only a digest is kept.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// ContentName is the name of the Content that holds a version of r.
func ContentName(r Ref, digest string) string {
	return string(r.Kind) + "." + r.Name + "." + digest
}
