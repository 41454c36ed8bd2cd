package object

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const plaintext = "hunter2-is-the-password"

// fill sets every field of a value to something that is not zero, so that an
// encoding that loses one is found.
func fill(v reflect.Value, r *rand.Rand, depth int) {
	if v.Type() == reflect.TypeFor[Any]() { // an object inside a plan or a revision
		o := &ConfigMap{Meta: Meta{Kind: KindConfigMap, Name: "inner"}}
		v.Set(reflect.ValueOf(Any{o}))
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(r.Int64N(4e9)+1, r.Int64N(1e9)).UTC()
		return
	case *Sensitive:
		*x = NewSensitive(plaintext).WithDigest(fmt.Sprint("d", r.IntN(100)))
		x.Sealed = []byte{1, byte(r.IntN(255))}
		return
	case *Amount:
		*x = Amount{N: 1 + r.IntN(99), Percent: r.IntN(2) == 0}
		return
	case *Kind:
		*x = kinds[r.IntN(len(kinds))].Kind
		return
	case *PortRef:
		*x = "http"
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint("s", r.IntN(1000)))
	case reflect.Int, reflect.Int64:
		v.SetInt(1 + r.Int64N(1<<30))
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(1 + r.Uint64N(200))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), r, depth+1)
	case reflect.Slice:
		n := 1 + r.IntN(2)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), r, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range 1 + r.IntN(2) {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(e, r, depth+1)
			k := reflect.New(v.Type().Key()).Elem()
			k.SetString(fmt.Sprint("k", i))
			v.SetMapIndex(k, e)
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf("any"))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), r, depth+1)
			}
		}
	}
}

func everyField(k KindInfo, seed uint64) Object {
	o := k.New()
	fill(reflect.ValueOf(o).Elem(), rand.New(rand.NewPCG(seed, 1)), 0)
	o.Head().Kind = k.Kind
	return o
}

// Every kind survives both encodings with every field set, and no encoding
// holds the plain text of a sensitive value.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")]
		o := everyField(k, rapid.Uint64().Draw(t, "seed"))
		want, err := Encode(Any{o})
		if err != nil {
			t.Fatalf("%s: %v", k.Kind, err)
		}
		var back Any
		if err := Decode(want, &back); err != nil {
			t.Fatalf("%s from CBOR: %v", k.Kind, err)
		}
		if again, err := Encode(back); err != nil || string(again) != string(want) {
			t.Fatalf("%s loses something in CBOR (%v)", k.Kind, err)
		}
		text, err := json.Marshal(Any{o})
		if err != nil {
			t.Fatalf("%s: %v", k.Kind, err)
		}
		var fromJSON Any
		if err := json.Unmarshal(text, &fromJSON); err != nil {
			t.Fatalf("%s from JSON: %v\n%s", k.Kind, err, text)
		}
		if again, err := Encode(fromJSON); err != nil || string(again) != string(want) {
			t.Fatalf("%s loses something in JSON (%v)\n%s", k.Kind, err, text)
		}
		for name, b := range map[string]string{"CBOR": string(want), "JSON": string(text), "%v": fmt.Sprintf("%v %+v %#v", o, o, o)} {
			if strings.Contains(b, plaintext) {
				t.Fatalf("%s: %s holds the plain text of a sensitive value", k.Kind, name)
			}
		}
	})
}

func TestSensitiveIsNeverWritten(t *testing.T) {
	s := NewSensitive(plaintext)
	holder := struct {
		S Sensitive
		P *Sensitive
		M map[string]Sensitive
	}{s, &s, map[string]Sensitive{"k": s}}
	text, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := Encode(holder)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{string(text), string(binary), fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", holder, holder, holder, s, s)} {
		if strings.Contains(out, plaintext) {
			t.Errorf("%s", out)
		}
	}
	if got, ok := s.Reveal(); !ok || got != plaintext {
		t.Error("Reveal lost it")
	}
}

func TestUnknownFieldsAndKindsAreRefused(t *testing.T) {
	for _, text := range []string{`{"meta":{"kind":"nothing"}}`, `{"meta":{"kind":"pod","name":"a"},"spec":{"nodee":"x"}}`, `[]`, `{`} {
		var a Any
		if err := json.Unmarshal([]byte(text), &a); err == nil {
			t.Errorf("accepted %s", text)
		}
	}
}

// An output may be any JSON value: the log and snapshots must give back what the
// API can write as JSON and the next plan finds equal.
func TestOutputsOfAnyShapeSurviveTheLog(t *testing.T) {
	var want any
	if err := json.Unmarshal([]byte(`{"text": "x", "n": 1, "f": 1.5, "none": null, "list": [true, {"deep": {"er": [1, 2]}}], "empty": {}}`), &want); err != nil {
		t.Fatal(err)
	}
	in := &Stack{Meta: Meta{Kind: KindStack, Name: "shop"}, Spec: StackSpec{Outputs: map[string]Output{"o": {Value: want}}}}
	b, err := Encode(Any{in})
	if err != nil {
		t.Fatal(err)
	}
	var out Any
	if err := Decode(b, &out); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	var again Any
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if got := again.Object.(*Stack).Spec.Outputs["o"].Value; !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", got, want)
	}
}
