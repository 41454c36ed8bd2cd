package object

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func goodDeployment() *Deployment {
	d := &Deployment{Meta: Meta{Kind: KindDeployment, Namespace: "default", Name: "web"}}
	SetDefaults(&d.Spec)
	c := Container{Name: "web"}
	SetDefaults(&c)
	c.Name, c.Image = "web", "web:1"
	c.Ports = []ContainerPort{{Name: "http", Port: 80, Protocol: "tcp"}}
	d.Spec.Pod.Containers = []Container{c}
	return d
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Deployment)
		want   []string // path: summary
	}{
		{"good", func(*Deployment) {}, nil},
		{"name", func(d *Deployment) { d.Name = "Web" }, []string{": Wrong name"}},
		{"long name", func(d *Deployment) { d.Name = strings.Repeat("a", 60) }, []string{": Long name"}},
		{"namespace", func(d *Deployment) { d.Namespace = "" }, []string{"namespace: Wrong name"}},
		{"labels", func(d *Deployment) { d.Spec.Pod.Labels = map[string]string{"a b": "x", "c": "-"} }, []string{`pod.labels["a b"]: Wrong label`, `pod.labels["c"]: Wrong label`}},
		{"no container", func(d *Deployment) { d.Spec.Pod.Containers = nil }, []string{"pod.container: No container"}},
		{"negative", func(d *Deployment) { d.Spec.Replicas = -1 }, []string{"replicas: Negative number"}},
		{"enum", func(d *Deployment) { d.Spec.Pod.Restart = "allways" }, []string{"pod.restart: Unknown value"}},
		{"no image", func(d *Deployment) { d.Spec.Pod.Containers[0].Image = "" }, []string{`pod.container["web"].image: Missing attribute`}},
		{"twice", func(d *Deployment) {
			d.Spec.Pod.Containers[0].Ports = nil
			d.Spec.Pod.Containers = append(d.Spec.Pod.Containers, d.Spec.Pod.Containers[0])
		}, []string{`pod.container["web"]: Duplicate name`}},
		{"port clash", func(d *Deployment) {
			other := d.Spec.Pod.Containers[0]
			other.Name = "other"
			other.Ports = []ContainerPort{{Name: "admin", Port: 80, Protocol: "tcp"}}
			d.Spec.Pod.Containers = append(d.Spec.Pod.Containers, other)
		}, []string{`pod.container["other"].port["admin"].port: Port used twice`}},
		{"probe", func(d *Deployment) {
			p := &Probe{}
			SetDefaults(p)
			p.TCP = &TCPProbe{Port: "htp"}
			d.Spec.Pod.Containers[0].Liveness = p
		}, []string{`pod.container["web"].liveness.tcp.port: No such port`}},
		{"probe without a command", func(d *Deployment) {
			p := &Probe{}
			SetDefaults(p)
			p.Exec = &ExecProbe{Command: []string{}}
			d.Spec.Pod.Containers[0].Liveness = p
		}, []string{`pod.container["web"].liveness.exec.command: Empty list`}},
		{"probe that never rests", func(d *Deployment) {
			p := &Probe{}
			SetDefaults(p)
			p.TCP, p.Period = &TCPProbe{Port: "http"}, 1
			d.Spec.Pod.Containers[0].Liveness = p
		}, []string{`pod.container["web"].liveness.period: Wrong duration`}},
		{"asks beyond all bounds", func(d *Deployment) {
			r := &d.Spec.Pod.Containers[0].Resources
			r.CPU, r.Memory, r.Limits.PIDs = math.MaxInt64, math.MaxInt64, 1
		}, []string{`pod.container["web"].resources.cpu: Too large`, `pod.container["web"].resources.memory: Too large`}},
		{"negative units", func(d *Deployment) {
			d.Spec.Pod.Containers[0].Resources.Memory, d.Spec.Pod.Grace, d.Spec.Update.MinReadyTime = -1, -1, -1
		}, []string{"update.min_ready_time: Negative amount", "pod.grace: Negative amount", `pod.container["web"].resources.memory: Negative amount`}},
		{"volume", func(d *Deployment) { d.Spec.Pod.Volumes = []Volume{{Name: "v"}} }, []string{`pod.volume["v"]: Not one source`, `pod.volume["v"]: Unused volume`}},
		{"constraint", func(d *Deployment) {
			d.Spec.Pod.Constraints = []Constraint{{Attribute: "zone", Operator: "in"}}
		}, []string{"pod.constraint[0].values: Missing attribute"}},
		{"names of Linux", func(d *Deployment) {
			x := &d.Spec.Pod.Containers[0]
			x.Image, x.User, x.StopSignal, x.Caps = "Shop:1:2", "a:b:c", "SIGTREM", Capabilities{Add: []string{"NET_ADMN"}, Drop: []string{"ALL", "cap_kill"}}
		}, []string{`pod.container["web"].image: Wrong image`, `pod.container["web"].user: Wrong user`, `pod.container["web"].stop_signal: Wrong signal`,
			`pod.container["web"].capabilities.add: Wrong capability`, `pod.container["web"].capabilities.drop: Wrong capability`}},
		{"names of Linux, good", func(d *Deployment) {
			x := &d.Spec.Pod.Containers[0]
			x.Image, x.User, x.StopSignal, x.Caps = "[::1]:5000/shop/web_a--b:1.2-rc_1@sha256:"+strings.Repeat("0a", 32), "1000:web.admin", "SIGRTMIN+3", Capabilities{Add: []string{"NET_ADMIN"}, Drop: []string{"ALL"}}
		}, nil},
		{"constraints nothing meets", func(d *Deployment) {
			d.Spec.Pod.Constraints = []Constraint{{Attribute: "zone", Operator: "regexp", Value: "("}, {Attribute: "kernel", Operator: "version", Value: "six"}, {Attribute: "kernel", Operator: "version", Value: ">= 6"}}
		}, []string{"pod.constraint[0].value: Wrong value", "pod.constraint[1].value: Wrong value"}},
		{"update", func(d *Deployment) { d.Spec.Update.Surge = Amount{} }, []string{"update.surge: Update that cannot move"}},
	} {
		d := goodDeployment()
		test.change(d)
		var got []string
		for _, x := range Validate(d) {
			got = append(got, x.Path+": "+x.Summary)
			if x.Detail == "" {
				t.Errorf("%s: no cure in %+v", test.name, x)
			}
		}
		if strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}

// What Berth makes itself passes, and nothing makes Validate fail.
func TestValidateNeverPanics(t *testing.T) {
	for _, k := range Kinds() {
		for seed := range uint64(20) {
			Validate(everyField(k, seed))
		}
		Validate(k.New())
		o := k.New()
		o.Head().Name = "a"
		if k.Namespaced {
			o.Head().Namespace = "default"
		}
		// Templates, contents and revisions are named for what they hold.
		named := k.Kind == KindTemplate || k.Kind == KindContent || k.Kind == KindRevision
		if !k.Declared && len(Validate(o)) > 0 != named {
			t.Errorf("%s: %v", k.Kind, Validate(o))
		}
	}
}

func TestCanarySteps(t *testing.T) {
	for _, c := range []struct {
		want   string
		update Update
	}{
		{"No step", Update{Strategy: "canary"}},
		{"Superfluous attribute", Update{Strategy: "rolling", Steps: []CanaryStep{{Name: "a", Weight: 5}}}},
		{"Missing attribute", Update{Strategy: "rolling", Steps: []CanaryStep{{Name: "a", Manual: true}}}},
		{"Superfluous block", Update{Strategy: "recreate", Steps: []CanaryStep{{Name: "a", Weight: 5}}}},
		{"Superfluous block", Update{Strategy: "rolling", BlueGreen: &BlueGreen{}}},
		{"Two ways to go on", Update{Strategy: "blue_green", BlueGreen: &BlueGreen{After: 1, Manual: true}}},
		{"Wrong weight", Update{Strategy: "canary", Steps: []CanaryStep{{Name: "a", Weight: 101}}}},
		{"Weight that falls", Update{Strategy: "canary", Steps: []CanaryStep{{Name: "a", Weight: 50}, {Name: "b", Weight: 5}}}},
		{"Superfluous block", Update{Strategy: "rolling", Zones: &Zones{Manual: true}}},
		{"Superfluous attribute", Update{Strategy: "canary", By: "zone", Steps: []CanaryStep{{Name: "a", Weight: 5}}}},
		{"Superfluous attribute", Update{Strategy: "recreate", By: "zone"}},
		{"Superfluous attribute", Update{Strategy: "blue_green", By: "zone"}},
		{"Superfluous block", Update{Strategy: "rolling", By: "zone", Steps: []CanaryStep{{Name: "a", Scale: Amount{N: 1}}}}},
		{"Duplicate name", Update{Strategy: "rolling", By: "zone", Zones: &Zones{Order: []string{"a", "b", "a"}}}},
		{"Empty name", Update{Strategy: "rolling", By: "zone", Zones: &Zones{Order: []string{""}}}},
		{"Two pauses", Update{Strategy: "canary", Steps: []CanaryStep{{Name: "a", Weight: 5, Pause: 1, Manual: true}}}},
	} {
		d := &Deployment{Meta: Meta{Kind: KindDeployment, Namespace: "default", Name: "web"}}
		SetDefaults(&d.Spec)
		d.Spec.Update.Strategy, d.Spec.Update.Steps, d.Spec.Update.BlueGreen = c.update.Strategy, c.update.Steps, c.update.BlueGreen
		d.Spec.Update.By, d.Spec.Update.Zones = c.update.By, c.update.Zones
		found := false
		for _, x := range Validate(d) {
			found = found || x.Summary == c.want
		}
		if !found {
			t.Errorf("%+v: no diagnostic %q", c.update, c.want)
		}
	}
}

// TestOrdinaryImage: what is ordinary is an image reference, and most are ordinary.
func TestOrdinaryImage(t *testing.T) {
	for _, s := range []string{"web", "registry.example/shop/web:1", "ghcr.io/a-b/c.d:v1.2_3", "a/b/c"} {
		if !ordinaryImage(s) {
			t.Errorf("%s is not ordinary", s)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[a-zB0-9.:/_@-]{0,12}`).Draw(t, "image")
		if ordinaryImage(s) && !imageReference.MatchString(s) {
			t.Errorf("%q is ordinary, and no image reference", s)
		}
	})
}
