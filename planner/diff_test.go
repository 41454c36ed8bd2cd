package planner

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

const plaintext = "hunter2-plaintext"

func meta(k object.Kind, name string) object.Meta {
	m := object.Meta{Kind: k, Name: name}
	if info, _ := object.Info(k); info.Namespaced {
		m.Namespace = "default"
	}
	return m
}

func deployment(name, image string, replicas int, change ...func(*object.Deployment)) *object.Deployment {
	d := &object.Deployment{Meta: meta(object.KindDeployment, name)}
	object.SetDefaults(&d.Spec)
	d.Spec.Replicas = replicas
	d.Spec.Pod.Labels = map[string]string{"app": name}
	c := object.Container{Name: "main"}
	object.SetDefaults(&c)
	c.Image = image
	c.Resources = object.Resources{CPU: 100, Memory: 64 << 20}
	probe := &object.Probe{HTTP: &object.HTTPProbe{Path: "/", Port: "80", Scheme: "http"}}
	object.SetDefaults(probe)
	probe.Period = object.Duration(time.Second)
	c.Readiness = probe
	d.Spec.Pod.Containers = []object.Container{c}
	for _, f := range change {
		f(d)
	}
	return d
}

func reading(names ...string) func(*object.Deployment) {
	return func(d *object.Deployment) {
		for _, n := range names {
			d.Spec.Pod.Volumes = append(d.Spec.Pod.Volumes, object.Volume{Name: n, ConfigMap: n})
		}
	}
}

func configMap(name, text string) *object.ConfigMap {
	return &object.ConfigMap{Meta: meta(object.KindConfigMap, name), Spec: object.ConfigMapSpec{Data: map[string]string{"k": text}, Reload: "restart"}}
}

func signalling(text string) *object.ConfigMap {
	c := configMap("conf", text)
	c.Spec.Reload = object.ReloadSignal
	return c
}

func secret(name, plain string) *object.Secret {
	return &object.Secret{Meta: meta(object.KindSecret, name), Spec: object.SecretSpec{Reload: "restart", Data: map[string]object.Sensitive{"password": object.NewSensitive(plain).WithDigest(object.Digest("key" + plain))}}}
}

func service(name string) *object.Service {
	s := &object.Service{Meta: meta(object.KindService, name)}
	object.SetDefaults(&s.Spec)
	s.Spec.Selector = map[string]string{"app": name}
	return s
}

func barePod(name, image string) *object.Pod {
	p := &object.Pod{Meta: meta(object.KindPod, name)}
	p.Spec.Pod = &deployment("x", image, 1).Spec.Pod
	return p
}

func request(objects ...object.Object) Request {
	r := Request{Stack: "shop", Version: "test"}
	for _, o := range objects {
		r.Objects = append(r.Objects, Desired{Object: o})
	}
	return r
}

// world is a store with objects as stack shop declares them.
func world(t testing.TB, stack string, objects ...object.Object) *state.Store {
	t.Helper()
	s := state.New()
	add(t, s, stack, objects...)
	return s
}

func add(t testing.TB, s *state.Store, stack string, objects ...object.Object) {
	t.Helper()
	c := object.Changeset{Author: "test", Time: start}
	for _, o := range objects {
		n := o.Clone()
		n.Head().Stack = stack
		c.Create(n)
	}
	if _, err := s.Apply(s.Snapshot().Index()+1, c); err != nil {
		t.Fatal(err)
	}
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// brief is a plan in a few words: wave, actions, address, then the reasons.
func brief(p object.Plan) []string {
	var out []string
	for _, c := range p.Changes {
		s := fmt.Sprintf("%d %s %s", c.Wave, strings.Join(c.Actions, "/"), c.Address)
		if c.Before.Object != nil && c.After.Object != nil {
			for _, f := range c.Fields {
				s += fmt.Sprintf("; %s: %s", f.Path, f.Why)
			}
		}
		out = append(out, s)
	}
	return out
}

func TestDiff(t *testing.T) {
	web, web2 := deployment("web", "web:1", 4, reading("conf")), deployment("web", "web:2", 4, reading("conf"))
	tests := map[string]struct {
		have []object.Object
		r    Request
		want []string
	}{
		"nothing":           {nil, request(), nil},
		"no changes":        {[]object.Object{web, configMap("conf", "a"), secret("db", "x")}, request(web, configMap("conf", "a"), secret("db", "x")), nil},
		"create, in waves":  {nil, request(web, configMap("conf", "a")), []string{"1 create config_map.conf", "2 create deployment.web"}},
		"roll":              {[]object.Object{web, configMap("conf", "a")}, request(web2, configMap("conf", "a")), []string{`1 update deployment.web; pod.container["main"].image: rolls 4 pods`}},
		"scale":             {[]object.Object{deployment("web", "a", 4)}, request(deployment("web", "a", 6)), []string{"1 update deployment.web; replicas: scales in place"}},
		"in place":          {[]object.Object{deployment("web", "a", 4)}, request(deployment("web", "a", 4, func(d *object.Deployment) { d.Spec.History = 3 })), []string{"1 update deployment.web; history: changes in place"}},
		"recreate":          {[]object.Object{deployment("web", "a", 1, recreate)}, request(deployment("web", "b", 1, recreate)), []string{`1 update deployment.web; pod.container["main"].image: recreates 1 pod`}},
		"config restarts":   {[]object.Object{web, configMap("conf", "a")}, request(web, configMap("conf", "b")), []string{`1 update config_map.conf; data["k"]: restarts 4 pods of deployment.web`, `2 update deployment.web; pod.reads["config_map/conf"]: rolls 4 pods`}},
		"config signals":    {[]object.Object{web, signalling("a")}, request(web, signalling("b")), []string{`1 update config_map.conf; data["k"]: signals 4 pods of deployment.web`}},
		"config and more":   {[]object.Object{web, configMap("conf", "a")}, request(web2, configMap("conf", "b")), []string{`1 update config_map.conf; data["k"]: restarts 4 pods of deployment.web`, `1 update deployment.web; pod.container["main"].image: rolls 4 pods; pod.reads["config_map/conf"]: rolls 4 pods`}},
		"config, unread":    {[]object.Object{configMap("conf", "a")}, request(configMap("conf", "b")), []string{`1 update config_map.conf; data["k"]: no running deployment reads it`}},
		"secret":            {[]object.Object{secret("db", "a")}, request(secret("db", "b")), []string{`1 update secret.db; data["password"]: no running deployment reads it`}},
		"bare pod":          {[]object.Object{barePod("once", "a")}, request(barePod("once", "b")), []string{`1 delete/create pod.once; container["main"].image: replaces the pod`}},
		"deletes last":      {[]object.Object{web, configMap("conf", "a")}, request(service("new")), []string{"1 create service.new", "2 delete deployment.web", "3 delete config_map.conf"}},
		"destroy":           {[]object.Object{web, configMap("conf", "a")}, Request{Stack: "shop", Destroy: true}, []string{"1 delete deployment.web", "2 delete config_map.conf"}},
		"others stay":       {nil, request(), nil},
		"target with needs": {nil, target("deployment.web", web, configMap("conf", "a"), service("other")), []string{"1 create config_map.conf", "2 create deployment.web"}},
		"destroy target":    {[]object.Object{web, configMap("conf", "a"), service("other")}, Request{Stack: "shop", Destroy: true, Targets: []string{"config_map.conf"}}, []string{"1 delete deployment.web", "2 delete config_map.conf"}},
		"depends on": {nil, Request{Stack: "shop", Objects: []Desired{{Object: service("a"), DependsOn: []object.Ref{service("b").Ref()}}, {Object: service("b"), DependsOn: []object.Ref{service("c").Ref()}}, {Object: service("c")}}},
			[]string{"1 create service.c", "2 create service.b", "3 create service.a"}},
		"through unchanged": {[]object.Object{service("b")}, Request{Stack: "shop", Objects: []Desired{{Object: service("a"), DependsOn: []object.Ref{service("b").Ref()}}, {Object: service("b"), DependsOn: []object.Ref{service("c").Ref()}}, {Object: service("c")}}},
			[]string{"1 create service.c", "2 create service.a"}},
		"ignored":    {[]object.Object{deployment("web", "a", 9)}, Request{Stack: "shop", Objects: []Desired{{Object: deployment("web", "a", 4), Ignore: []string{"replicas"}}}}, nil},
		"ignore all": {[]object.Object{deployment("web", "a", 9)}, Request{Stack: "shop", Objects: []Desired{{Object: deployment("web", "b", 4), Ignore: []string{"all"}}}}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := world(t, "shop", tt.have...)
			add(t, s, "other", service("foreign"))
			p, diags := Diff(s.Snapshot(), tt.r)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if got := brief(p); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			highest := 0
			for _, c := range p.Changes {
				highest = max(highest, c.Wave)
			}
			if p.Waves != highest {
				t.Errorf("%d waves, highest is %d", p.Waves, highest)
			}
		})
	}
}

func recreate(d *object.Deployment) { d.Spec.Update.Strategy = "recreate" }

func target(t string, objects ...object.Object) Request {
	r := request(objects...)
	r.Targets = []string{t}
	return r
}

func TestDiffErrors(t *testing.T) {
	protected := service("web")
	protected.PreventDestroy = true
	owned := &object.ReplicaSet{Meta: meta(object.KindReplicaSet, "web-1")}
	owned.Owner = deployment("web", "a", 1).Ref()
	tests := map[string]struct {
		have  []object.Object
		stack string
		r     Request
		want  []string
	}{
		"two stacks":   {[]object.Object{service("web")}, "other", request(service("web")), []string{`"other"`, `"shop"`, "service/default/web"}},
		"owned":        {[]object.Object{owned}, "shop", request(&object.ReplicaSet{Meta: meta(object.KindReplicaSet, "web-1")}), []string{"belongs to deployment/default/web"}},
		"prevent":      {[]object.Object{protected}, "shop", request(), []string{"service.web has lifecycle.prevent_destroy"}},
		"cycle":        {nil, "shop", Request{Stack: "shop", Objects: []Desired{{Object: service("a"), DependsOn: []object.Ref{service("b").Ref()}}, {Object: service("b"), DependsOn: []object.Ref{service("a").Ref()}}}}, []string{"service.a -> service.b -> service.a"}},
		"duplicate":    {nil, "shop", Request{Stack: "shop", Objects: []Desired{{Address: "service.a[0]", Object: service("a")}, {Address: "service.a[1]", Object: service("a")}}}, []string{"service.a[0] and service.a[1]"}},
		"no target":    {nil, "shop", target("service.wbe", service("web")), []string{"service.wbe", `Did you mean "service.web"?`}},
		"no digest":    {nil, "shop", request(&object.Secret{Meta: meta(object.KindSecret, "db"), Spec: object.SecretSpec{Data: map[string]object.Sensitive{"k": object.NewSensitive(plaintext)}}}), []string{`data["k"]`}},
		"wrong ignore": {[]object.Object{service("web")}, "shop", Request{Stack: "shop", Objects: []Desired{{Object: service("web"), Ignore: []string{"selektor"}}}}, []string{"a service has no selektor"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, diags := Diff(world(t, tt.stack, tt.have...).Snapshot(), tt.r)
			if !diags.HasErrors() {
				t.Fatal("no error")
			}
			text := fmt.Sprint(diags)
			if strings.Contains(text, plaintext) {
				t.Error("a secret is shown")
			}
			for _, w := range tt.want {
				if !strings.Contains(text, w) {
					t.Errorf("%s does not mention %s", text, w)
				}
			}
		})
	}
}

func TestDiffKeepsWhatPeopleDid(t *testing.T) {
	have := deployment("web", "a", 4)
	have.Spec.Paused, have.Spec.Restarted = true, start
	p, _ := Diff(world(t, "shop", have).Snapshot(), request(deployment("web", "b", 4)))
	after := p.Changes[0].After.Object.(*object.Deployment)
	if !after.Spec.Paused || !after.Spec.Restarted.Equal(start) {
		t.Errorf("%+v", after.Spec)
	}
	if why := p.Changes[0].Fields[0].Why; why != "rolls 4 pods once it is resumed" {
		t.Error(why)
	}
}

func TestDiffAdoptsAndReleasesNodes(t *testing.T) {
	node := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n1", Labels: map[string]string{"zone": "a"}}, Spec: object.NodeSpec{Unschedulable: true}}
	want := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n1", Labels: map[string]string{"disk": "ssd"}}, Spec: object.NodeSpec{Taints: []object.Taint{{Key: "gpu", Effect: "no_schedule"}}}}
	p, diags := Diff(world(t, "", node).Snapshot(), request(want))
	if diags.HasErrors() || len(p.Changes) != 1 || p.Changes[0].Reason != object.ReasonAdopt {
		t.Fatalf("%v %+v", diags, p.Changes)
	}
	after := p.Changes[0].After.Object.(*object.Node)
	if !carries(after.Labels, "zone=a disk=ssd") || !after.Spec.Unschedulable || after.Stack != "shop" {
		t.Errorf("%+v", after)
	}
	p, _ = Diff(world(t, "shop", after).Snapshot(), request(want))
	if len(p.Changes) != 0 {
		t.Errorf("adopted, yet: %v", brief(p))
	}
	p, _ = Diff(world(t, "shop", after).Snapshot(), request())
	if c := p.Changes[0]; c.Op() != object.OpUpdate || c.Reason != object.ReasonRelease || c.After.Head().Stack != "" {
		t.Errorf("%+v", c)
	}
}

func carries(m map[string]string, want string) bool {
	for _, w := range strings.Fields(want) {
		k, v, _ := strings.Cut(w, "=")
		if m[k] != v {
			return false
		}
	}
	return true
}

func TestDiffExpects(t *testing.T) {
	s := world(t, "shop", configMap("conf", "a"), deployment("web", "a", 4, reading("conf")))
	add(t, s, "shop", service("unrelated"))
	p, _ := Diff(s.Snapshot(), request(configMap("conf", "a"), deployment("web", "b", 4, reading("conf")), service("unrelated"), service("new")))
	var got []string
	for _, x := range p.Expect {
		got = append(got, fmt.Sprintf("%s@%d", x.Ref, x.Version))
	}
	want := []string{"config_map/default/conf@1", "deployment/default/web@1", "service/default/new@0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDiffOutputs(t *testing.T) {
	s := state.Load(5, []object.Object{&object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "shop"}, Spec: object.StackSpec{Revision: 3, Outputs: map[string]object.Output{"a": {Value: 1.0}, "b": {Value: "x"}, "c": {Value: "x"}, "s": {Sensitive: true}}}}})
	r := request()
	r.Outputs = map[string]object.Output{"a": {Value: 1}, "b": {Value: "y"}, "d": {Value: "z"}, "s": {Sensitive: true}}
	p, _ := Diff(s.Snapshot(), r)
	got := map[string]string{}
	for n, c := range p.OutputChanges {
		got[n] = c.Actions[0]
	}
	if want := map[string]string{"b": "update", "c": "delete", "d": "create"}; !reflect.DeepEqual(got, want) || p.Base != 3 {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The order in which objects are given, and in which the state was filled, does
// not change a byte of the plan.
func TestDiffIsDeterministic(t *testing.T) {
	have := []object.Object{configMap("conf", "a"), configMap("old", "a"), deployment("web", "a", 4, reading("conf")), service("web"), secret("db", "a"), barePod("once", "a")}
	want := []object.Object{configMap("conf", "b"), configMap("more", "a"), deployment("web", "b", 4, reading("conf", "more")), service("web"), secret("db", "b"), barePod("once", "b"), deployment("api", "b", 2)}
	var first []byte
	rapid.Check(t, func(t *rapid.T) {
		s := state.Load(9, rapid.Permutation(slices.Clone(have)).Draw(t, "have"))
		for _, o := range have {
			o.Head().Stack = "shop"
		}
		p, diags := Diff(s.Snapshot(), request(rapid.Permutation(slices.Clone(want)).Draw(t, "want")...))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		b, err := p.SealingBytes(object.InOrder)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(first, b) {
			t.Fatalf("two plans:\n%s\n%s", first, b)
		}
		if bytes.Contains(b, []byte(plaintext)) {
			t.Fatal("a secret is in the plan")
		}
	})
}

func TestPlanFile(t *testing.T) {
	var objects []object.Object
	for i := range 100 {
		objects = append(objects, deployment(fmt.Sprintf("web-%03d", i), fmt.Sprintf("registry.example/web:%d", i), 4))
	}
	objects = append(objects, secret("db", plaintext))
	r := request(objects...)
	r.Outputs = map[string]object.Output{"n": {Value: 3}, "l": {Value: []any{"a", 1.5, true}}}
	p, diags := Diff(state.New().Snapshot(), r)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	p.Time, p.Seal = start, "seal"
	for _, image := range p.ImagesToPin() {
		p.Images = append(p.Images, object.PinnedImage{Image: image, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(image))), From: object.PinnedByRegistry})
	}
	var a, b bytes.Buffer
	if err := WritePlan(&a, &p); err != nil {
		t.Fatal(err)
	}
	if a.Len() > 64<<10 {
		t.Errorf("%d bytes for 100 objects", a.Len())
	}
	q, err := ReadPlan("p", a.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := WritePlan(&b, q); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("writing what was read gives another file")
	}
	x, _ := p.SealingBytes(object.InOrder)
	y, _ := q.SealingBytes(object.InOrder)
	if !bytes.Equal(x, y) || bytes.Contains(x, []byte(`"seal"`)) {
		t.Error("the sealing bytes do not survive the file")
	}
	if raw, _ := json.Marshal(q); bytes.Contains(raw, []byte(plaintext)) {
		t.Error("a secret is in the file")
	}
	if got := q.Sensitives(); len(got) != 1 {
		t.Errorf("needs %v", got)
	}

	foreign := bytes.Replace(a.Bytes(), []byte(markerName), []byte("tfstate-xx"), -1)
	newer := p
	newer.Format = "2.0"
	var n bytes.Buffer
	if err := WritePlan(&n, &newer); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := zip.NewWriter(&packed)
	for _, name := range []string{planName, markerName} {
		if _, err := z.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(a.Bytes())
	damaged[len(damaged)/2] ^= 0xff
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"empty":   {nil, "is empty"},
		"text":    {[]byte("deployment \"web\" {}"), "is not a saved plan"},
		"cut":     {a.Bytes()[:a.Len()/2], "is damaged"},
		"damaged": {damaged, "is damaged"},
		"foreign": {foreign, "not a plan of berth"},
		"packed":  {packed.Bytes(), "packed anew"},
		"newer":   {n.Bytes(), `format "2.0"; this version reads 1.0`},
	} {
		_, err := ReadPlan("p.plan", tt.data)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !object.IsCode(err, object.CodeInvalid) || !strings.Contains(err.Error(), "p.plan") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkDiff10000Unchanged(b *testing.B)  { benchmarkDiff(b, 0) }
func BenchmarkDiff10000OneChanged(b *testing.B) { benchmarkDiff(b, 1) }
func BenchmarkDiff10000New(b *testing.B)        { benchmarkDiff(b, -1) }

func benchmarkDiff(b *testing.B, changed int) {
	var have, want []object.Object
	for i := range 10_000 {
		image := "web:1"
		have = append(have, deployment(fmt.Sprintf("web-%d", i), image, 4))
		if i < changed {
			image = "web:2"
		}
		want = append(want, deployment(fmt.Sprintf("web-%d", i), image, 4))
	}
	s := state.New()
	if changed >= 0 {
		s = world(b, "shop", have...)
	}
	r := request(want...)
	b.ReportAllocs()
	for b.Loop() {
		p, diags := Diff(s.Snapshot(), r)
		if diags.HasErrors() || (changed >= 0 && len(p.Changes) != changed) {
			b.Fatal(len(p.Changes), diags)
		}
	}
}
