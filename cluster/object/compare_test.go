package object

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// filled is an object of the kind in which every configurable field has a value:
// two elements in every list and map, every pointer set.
func filled(t *testing.T, k KindInfo) Object {
	t.Helper()
	o := k.New()
	m := o.Head()
	m.Name = "x"
	if k.Namespaced {
		m.Namespace = "default"
	}
	m.Labels, m.Annotations = map[string]string{"a": "1", "b": "2"}, map[string]string{"n": "1", "o": "2"}
	n := 0
	fillValue(t, reflect.ValueOf(o.SpecPtr()).Elem(), &n)
	return o
}

func fillValue(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch {
	case v.Type() == sensitiveType:
		v.Set(reflect.ValueOf(NewSensitive(fmt.Sprint("plain", *n)).WithDigest(fmt.Sprint("digest", *n))))
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 0)))
	case v.Type() == reflect.TypeFor[Amount]():
		v.Set(reflect.ValueOf(Amount{N: *n}))
	case v.Kind() == reflect.Struct:
		for _, f := range Fields(v.Type()) {
			if !f.Internal {
				fillValue(t, v.Field(f.Index), n)
			}
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(t, v.Elem(), n)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillValue(t, v.Index(0), n)
		fillValue(t, v.Index(1), n)
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, k := range []string{"k1", "k2"} {
			e := reflect.New(v.Type().Elem()).Elem()
			fillValue(t, e, n)
			v.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), e)
		}
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprint("v", *n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(int64(*n))
	default:
		t.Fatalf("no value for a %s; teach fillValue", v.Type())
	}
}

// mutation changes one place below v; path is what the diff should call it.
type mutation struct {
	path  string
	apply func(root reflect.Value)
}

// mutations lists one change for every configurable field, and for every list
// and map the loss and the gain of an element.
func mutations(t *testing.T, typ reflect.Type, path string, get func(reflect.Value) reflect.Value) []mutation {
	t.Helper()
	var out []mutation
	add := func(p string, f func(reflect.Value)) {
		out = append(out, mutation{p, func(root reflect.Value) { f(get(root)) }})
	}
	switch {
	case typ == sensitiveType:
		add(path, func(v reflect.Value) { v.Set(reflect.ValueOf(Sensitive{Digest: "other"})) })
	case typ == reflect.TypeFor[Amount]():
		add(path, func(v reflect.Value) { v.Set(reflect.ValueOf(Amount{N: 999})) })
		add(path, func(v reflect.Value) { a := v.Interface().(Amount); a.Percent = !a.Percent; v.Set(reflect.ValueOf(a)) })
	case typ.Kind() == reflect.Struct:
		for _, f := range Fields(typ) {
			if f.Internal || f.Label {
				continue
			}
			p := join(path, f.Name)
			if f.Remain {
				p = path
			}
			idx := f.Index
			out = append(out, mutations(t, f.Type, p, func(r reflect.Value) reflect.Value { return get(r).Field(idx) })...)
		}
	case typ.Kind() == reflect.Pointer:
		add(path, func(v reflect.Value) { v.SetZero() })
		out = append(out, mutations(t, typ.Elem(), path, func(r reflect.Value) reflect.Value { return get(r).Elem() })...)
	case typ.Kind() == reflect.Slice:
		add(path, func(v reflect.Value) { v.Set(v.Slice(0, 1)) })
		add(path, func(v reflect.Value) { v.SetZero() })
		add(path, func(v reflect.Value) {
			a, b := reflect.ValueOf(v.Index(0).Interface()), reflect.ValueOf(v.Index(1).Interface())
			v.Index(0).Set(b)
			v.Index(1).Set(a)
		})
		for i := range 2 {
			out = append(out, mutations(t, typ.Elem(), path, func(r reflect.Value) reflect.Value { return get(r).Index(i) })...)
		}
	case typ.Kind() == reflect.Map:
		k1 := reflect.ValueOf("k1").Convert(typ.Key())
		add(path+`["k1"]`, func(v reflect.Value) { v.SetMapIndex(k1, reflect.Value{}) })
		add(path+`["k1"]`, func(v reflect.Value) {
			e := reflect.New(typ.Elem()).Elem()
			n := 777
			fillValue(t, e, &n)
			v.SetMapIndex(k1, e)
		})
		add(path+`["k3"]`, func(v reflect.Value) {
			e := reflect.New(typ.Elem()).Elem()
			n := 888
			fillValue(t, e, &n)
			v.SetMapIndex(reflect.ValueOf("k3").Convert(typ.Key()), e)
		})
	case typ.Kind() == reflect.String:
		add(path, func(v reflect.Value) { v.SetString("changed") })
		add(path, func(v reflect.Value) { v.SetString("") })
	case typ.Kind() == reflect.Bool:
		add(path, func(v reflect.Value) { v.SetBool(false) })
	default:
		add(path, func(v reflect.Value) { v.SetInt(v.Int() + 1) })
		add(path, func(v reflect.Value) { v.SetInt(0) })
	}
	return out
}

var brackets = regexp.MustCompile(`\[[^\]]*\]`)

// names is a path without its keys.
func names(path string) string { return brackets.ReplaceAllString(path, "") }

// No configurable field of any kind can change without the diff seeing it, at
// its path and in both directions.
func TestCompareSeesEveryField(t *testing.T) {
	for _, k := range Kinds() {
		if !k.Declared {
			continue
		}
		t.Run(string(k.Kind), func(t *testing.T) {
			if d := Compare(filled(t, k), filled(t, k)); d != nil {
				t.Fatalf("equal objects differ: %+v", d.Fields())
			}
			list := mutations(t, k.SpecType(), "", func(v reflect.Value) reflect.Value { return v })
			if len(list) < 1 {
				t.Fatal("nothing to change")
			}
			a := filled(t, k)
			for i, m := range list {
				path := names(m.path)
				if strings.Contains(path, "run.pod.") || strings.Contains(path, "step.check.") || strings.Contains(path, "blue_green.check") {
					continue // seen in the deployment's own template, and in the checks beside the steps
				}
				b := filled(t, k)
				m.apply(reflect.ValueOf(b.SpecPtr()).Elem())
				for _, pair := range [][2]Object{{a, b}, {b, a}} {
					d := Compare(pair[0], pair[1])
					if d == nil {
						t.Errorf("%d: a change of %s is not seen", i, m.path)
						continue
					}
					for _, f := range d.Fields() {
						if !strings.HasPrefix(names(f.Path), names(m.path)) {
							t.Errorf("a change of %s is reported at %s", m.path, f.Path)
						}
						if f.Sensitive && (f.Before != nil || f.After != nil) {
							t.Errorf("%s shows a sensitive value", f.Path)
						}
					}
				}
			}
			t.Logf("%d changes seen", len(list))
		})
	}
}

func TestCompareSeesMeta(t *testing.T) {
	base := func() *Service {
		return &Service{Meta: Meta{Kind: KindService, Name: "x", Labels: map[string]string{"a": "1"}}}
	}
	for path, change := range map[string]func(*Meta){
		`labels["a"]`:               func(m *Meta) { m.Labels = map[string]string{"a": "2"} },
		`annotations["b"]`:          func(m *Meta) { m.Annotations = map[string]string{"b": "2"} },
		"lifecycle.prevent_destroy": func(m *Meta) { m.PreventDestroy = true },
	} {
		b := base()
		change(&b.Meta)
		f := Compare(base(), b).Fields()
		if len(f) != 1 || f[0].Path != path || f[0].Effect != "in_place" {
			t.Errorf("%s: %+v", path, f)
		}
	}
	b := base()
	b.Version, b.ChangedBy, b.Stack = 7, "me", "s"
	if d := Compare(base(), b); d != nil {
		t.Errorf("bookkeeping is not configuration: %+v", d.Fields())
	}
}

func TestComparePathsAndEffects(t *testing.T) {
	dep := func(change func(*DeploymentSpec)) *Deployment {
		d := &Deployment{Meta: Meta{Kind: KindDeployment, Name: "web"}, Spec: DeploymentSpec{Replicas: 4, Pod: PodTemplate{Containers: []Container{
			{Name: "web", Image: "a:1", Env: map[string]Text{"A": "1", "B": "2"}, Command: []string{"x", "y"}}, {Name: "log", Image: "l:1"}}}}}
		if change != nil {
			change(&d.Spec)
		}
		return d
	}
	tests := map[string]struct {
		change func(*DeploymentSpec)
		want   []string
	}{
		"image":    {func(s *DeploymentSpec) { s.Pod.Containers[0].Image = "a:2" }, []string{`pod.container["web"].image rolls`}},
		"env":      {func(s *DeploymentSpec) { s.Pod.Containers[0].Env = map[string]Text{"A": "1", "B": "3"} }, []string{`pod.container["web"].env["B"] rolls`}},
		"command":  {func(s *DeploymentSpec) { s.Pod.Containers[0].Command = []string{"x", "z"} }, []string{`pod.container["web"].command[1] rolls`}},
		"replicas": {func(s *DeploymentSpec) { s.Replicas = 5 }, []string{"replicas scales"}},
		"by label": {func(s *DeploymentSpec) { s.Pod.Containers = s.Pod.Containers[1:] }, []string{`pod.container["web"].image rolls`, `pod.container["web"].pull rolls`, `pod.container["web"].command[0] rolls`, `pod.container["web"].command[1] rolls`, `pod.container["web"].env["A"] rolls`, `pod.container["web"].env["B"] rolls`, `pod.container["web"].stop_signal rolls`, `pod.container["web"].seccomp rolls`}},
		"order": {func(s *DeploymentSpec) {
			s.Pod.Containers = []Container{s.Pod.Containers[1], s.Pod.Containers[0]}
		}, []string{"pod.container rolls"}},
		"operational": {func(s *DeploymentSpec) { s.Paused, s.Restarted = true, time.Unix(1, 0) }, nil},
		"none":        {nil, nil},
	}
	for name, tt := range tests {
		var got []string
		for _, f := range Compare(dep(nil), dep(tt.change)).Fields() {
			got = append(got, f.Path+" "+f.Effect)
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
	a, b := &Pod{Meta: Meta{Kind: KindPod, Name: "p"}, Spec: PodSpec{Pod: &PodTemplate{Grace: 1}}}, &Pod{Meta: Meta{Kind: KindPod, Name: "p"}, Spec: PodSpec{Pod: &PodTemplate{Grace: 2}}}
	if f := Compare(a, b).Fields(); len(f) != 1 || f[0].Effect != "replaces" || f[0].Path != "grace" {
		t.Errorf("a pod's template replaces it: %+v", f)
	}
}

func TestCompareSensitiveByDigest(t *testing.T) {
	s := func(digest string) *Secret {
		return &Secret{Meta: Meta{Kind: KindSecret, Name: "db"}, Spec: SecretSpec{Data: map[string]Sensitive{"password": {Sealed: []byte(digest + time.Now().String()), Digest: digest}}}}
	}
	if d := Compare(s("a"), s("a")); d != nil {
		t.Error("the same digest differs")
	}
	f := Compare(s("a"), s("b")).Fields()
	if len(f) != 1 || !f[0].Sensitive || f[0].Path != `data["password"]` || f[0].Before != nil || f[0].After != nil {
		t.Errorf("%+v", f)
	}
}

func TestKeepOperational(t *testing.T) {
	at := time.Unix(5, 0)
	force := &Deployment{Spec: DeploymentSpec{Replicas: 1, Paused: true, Restarted: at, Pod: PodTemplate{Reads: map[string]string{"config_map/a": "1"}}}}
	want := &Deployment{Spec: DeploymentSpec{Replicas: 9}}
	KeepOperational(want, force)
	if want.Spec.Replicas != 9 || !want.Spec.Paused || !want.Spec.Restarted.Equal(at) || want.Spec.Pod.Reads["config_map/a"] != "1" {
		t.Errorf("%+v", want.Spec)
	}
}

func TestCopyPath(t *testing.T) {
	mk := func() *Deployment {
		return &Deployment{Meta: Meta{Kind: KindDeployment, Name: "web", Labels: map[string]string{"a": "1"}}, Spec: DeploymentSpec{Replicas: 4, Pod: PodTemplate{Containers: []Container{{Name: "web", Image: "a:1", Env: map[string]Text{"A": "1"}}}}}}
	}
	from := mk()
	from.Spec.Replicas, from.Labels = 9, map[string]string{"a": "2"}
	from.Spec.Pod.Containers[0].Image, from.Spec.Pod.Containers[0].Env = "a:2", map[string]Text{"A": "2", "B": "3"}
	for _, path := range []string{"replicas", `labels["a"]`, `pod.container["web"].image`, `pod.container["web"].env`} {
		to, shared := mk(), mk()
		to.Spec.Pod.Containers = shared.Spec.Pod.Containers
		if err := CopyPath(to, from, path); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, f := range Compare(to, from).Fields() {
			if strings.HasPrefix(f.Path, path) {
				t.Errorf("%s still differs: %+v", path, f)
			}
		}
		if d := Compare(shared, mk()); d != nil {
			t.Errorf("%s: wrote into a shared object: %+v", path, d.Fields())
		}
	}
	if err := CopyPath(mk(), from, "replcas"); err == nil {
		t.Error("a misspelt path is an error")
	}
	if err := CopyPath(mk(), from, `labels["a`); err == nil {
		t.Error("an open bracket is an error")
	}
}

func BenchmarkEqualDeployment(b *testing.B) {
	k, _ := Info(KindDeployment)
	t := &testing.T{}
	x, y := filled(t, k), filled(t, k)
	b.ReportAllocs()
	for b.Loop() {
		if !Equal(x, y) {
			b.Fatal("differ")
		}
	}
}
