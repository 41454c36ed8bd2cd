package object

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func filledApply(seed uint64) *ApplyRequest {
	r := new(ApplyRequest)
	fill(reflect.ValueOf(r).Elem(), rand.New(rand.NewPCG(seed, 1)), 0)
	for i := range r.Plan.Changes {
		r.Plan.Changes[i].Ref.Kind = KindConfigMap // as fill makes what is inside
	}
	return r
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What travels in the binary form is what would have travelled as JSON, and seals
// the same.
func TestPlansTravel(t *testing.T) {
	for seed := range uint64(20) {
		r := filledApply(seed)
		b, err := EncodeApply(r, InOrder)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(plaintext)) && !strings.Contains(mustJSON(t, r), plaintext) {
			t.Error("a secret travels that JSON leaves out")
		}
		got, err := DecodeApply(b, InOrder)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := mustJSON(t, r), mustJSON(t, got); a != b {
			t.Fatalf("sent\n%s\ngot\n%s", a, b)
		}
		var saved Plan
		if err := json.Unmarshal([]byte(mustJSON(t, r.Plan)), &saved); err != nil {
			t.Fatal(err)
		}
		want, err := r.Plan.SealingBytes(InOrder)
		if err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string]*Plan{"sent": &got.Plan, "saved": &saved} {
			if have, err := p.SealingBytes(InOrder); err != nil || !bytes.Equal(have, want) {
				t.Errorf("the plan that was %s seals otherwise: %v", name, err)
			}
		}
	}
	for _, n := range []int{0, 23, 24, 255, 256, 65535, 65536} { // the heads are canonical ones
		w := wireApply{Request: make([]byte, n), Expect: []cbor.RawMessage{}, Changes: []cbor.RawMessage{}, Before: slices.Repeat([]cbor.RawMessage{null}, n), After: []cbor.RawMessage{}}
		want, err := canonical.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		var have bytes.Buffer
		if err := w.writeTo(&have); err != nil || !bytes.Equal(have.Bytes(), want) {
			t.Errorf("%d are written otherwise: %v", n, err)
		}
	}
	r := filledApply(1)
	before := mustJSON(t, r)
	if _, err := r.Plan.SealingBytes(InOrder); err != nil || mustJSON(t, r) != before {
		t.Errorf("sealing changed the plan: %v", err)
	}
	other := filledApply(1)
	other.Plan.Changes[0].After.Object.Head().Name = "x"
	a, _ := r.Plan.SealingBytes(InOrder)
	if b, _ := other.Plan.SealingBytes(InOrder); bytes.Equal(a, b) {
		t.Error("another object seals the same")
	}
}

// What a newer client says beyond what is known here is refused, not lost.
func TestUnknownFieldsOfPlansAreRefused(t *testing.T) {
	encode := func(w wireApply) []byte {
		b, err := canonical.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	object, err := canonical.Marshal(map[string]any{"meta": map[string]any{"kind": "config_map", "name": "a"}, "spec": map[string]any{"novel": 1}})
	if err != nil {
		t.Fatal(err)
	}
	change, err := encodeChange(&PlannedChange{Ref: Ref{Kind: KindConfigMap, Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	request := `{"plan":{"format_version":"1.0","resource_changes":[]}}`
	changes := []cbor.RawMessage{change}
	longer := slices.Concat(cbor.RawMessage{change[0] + 1}, change[1:], cbor.RawMessage{1}) // an array of one more
	if _, err := DecodeApply(encode(wireApply{Request: []byte(request), Changes: changes, Before: []cbor.RawMessage{null}, After: []cbor.RawMessage{null}}), InOrder); err != nil {
		t.Errorf("what the others are made of: %v", err)
	}
	for name, b := range map[string][]byte{
		"in an object": encode(wireApply{Request: []byte(request), Changes: changes, Before: []cbor.RawMessage{null}, After: []cbor.RawMessage{object}}),
		"in a change":  encode(wireApply{Request: []byte(request), Changes: []cbor.RawMessage{longer}, Before: []cbor.RawMessage{null}, After: []cbor.RawMessage{null}}),
		"in a field":   encode(wireApply{Request: []byte(request), Changes: []cbor.RawMessage{novelField(t)}, Before: []cbor.RawMessage{null}, After: []cbor.RawMessage{null}}),
		"twice":        encode(wireApply{Request: []byte(`{"plan":{"resource_changes":[{"ref":{"kind":"config_map","name":"a"}}]}}`), Changes: changes, Before: []cbor.RawMessage{null}, After: []cbor.RawMessage{null}}),
		"in the plan":  encode(wireApply{Request: []byte(`{"plan":{"novel":1}}`)}),
		"too few":      encode(wireApply{Request: []byte(request), Changes: changes}),
		"junk":         []byte("junk"),
		"nothing":      nil,
	} {
		if r, err := DecodeApply(b, InOrder); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// novelField is a change with a field that says something unknown.
func novelField(t *testing.T) cbor.RawMessage {
	t.Helper()
	b, err := canonical.Marshal(&wireChange{Ref: Ref{Kind: KindConfigMap, Name: "a"}.wire(), Fields: []byte(`[{"path":"x","novel":1}]`)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Values of no fixed type are, after the log, what JSON can write.
func TestFreeValuesSurviveTheLog(t *testing.T) {
	s := &Stack{Meta: Meta{Kind: KindStack, Name: "s"}, Spec: StackSpec{Outputs: map[string]Output{"o": {Value: map[string]any{"a": []any{map[string]any{"b": 1.5}, "c", nil, true}}}}}}
	b, err := Encode(Any{s})
	if err != nil {
		t.Fatal(err)
	}
	var got Any
	if err := Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	if a, b := mustJSON(t, s), mustJSON(t, got); a != b {
		t.Errorf("%s\n%s", a, b)
	}
}

// An object in the log is the pair that any reader of CBOR would call it.
func TestObjectsInTheLogArePairs(t *testing.T) {
	for _, info := range Kinds() {
		o := info.New()
		o.Head().Kind, o.Head().Name = info.Kind, "x"
		got, err := Encode(Any{o})
		if err != nil {
			t.Fatal(err)
		}
		want, err := Encode([]any{info.Kind, o})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", info.Kind, got, want)
		}
		var back Any
		if err := Decode(got, &back); err != nil || back.Ref() != o.Ref() {
			t.Errorf("%s: %v %v", info.Kind, back, err)
		}
		for n := range len(got) { // cut off anywhere it is an error, no panic
			if err := new(Any).UnmarshalCBOR(got[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are read", info.Kind, n, len(got))
			}
		}
	}
	for _, junk := range [][]byte{nil, {0x82}, {0x82, 0x63, 'p', 'o'}, {0x83, 0x63, 'p', 'o', 'd'}, {0x82, 0x64, 'n', 'o', 'n', 'o', 0xa0}} {
		if err := new(Any).UnmarshalCBOR(junk); err == nil {
			t.Errorf("%x is read", junk)
		}
	}
}

// A plan is put together as the general encoder would, and what was encoded for a
// claim is what would be encoded now.
func TestPlansAreCanonical(t *testing.T) {
	for _, n := range []int{0, 1, 23, 24, 255, 256, 65536} {
		var w wireApply
		w.Request = bytes.Repeat([]byte{'x'}, n)
		for i := range n {
			w.Before, w.After = append(w.Before, null), append(w.After, cbor.RawMessage{byte(i % 24)})
			w.Expect, w.Changes = append(w.Expect, cbor.RawMessage{0x80}), append(w.Changes, cbor.RawMessage{byte(i % 24)})
		}
		want, err := canonical.Marshal(w)
		if n == 0 {
			w.Request = []byte{}
			want, err = canonical.Marshal(wireApply{Request: w.Request, Expect: []cbor.RawMessage{}, Changes: []cbor.RawMessage{}, Before: []cbor.RawMessage{}, After: []cbor.RawMessage{}})
		}
		if got := w.bytes(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d changes: %x…, not %x…: %v", n, got[:min(len(got), 20)], want[:min(len(want), 20)], err)
		}
	}
}
