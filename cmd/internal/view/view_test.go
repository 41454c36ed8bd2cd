package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const plaintext = "hunter2-plaintext"

// golden compares what print writes with testdata/name.
func golden(t *testing.T, name string, print func(io.Writer) error) {
	t.Helper()
	var b bytes.Buffer
	if err := print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), plaintext) {
		t.Errorf("%s: a secret is shown", name)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run go test -update", err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s differs; run go test -update and look at the diff. Got:\n%s", name, b.String())
	}
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func web(image string, replicas int) *object.Deployment {
	d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "shop", Name: "web", Stack: "shop", CreatedAt: now.Add(-3 * time.Hour)}}
	object.SetDefaults(&d.Spec)
	d.Spec.Replicas = replicas
	d.Spec.Pod.Labels = map[string]string{"app": "shop"}
	c := object.Container{Name: "web"}
	object.SetDefaults(&c)
	c.Image, c.Env = image, map[string]object.Text{"API": "http://api", "DB": "${secret.db.data.password}"}
	c.Resources = object.Resources{CPU: 250, Memory: 64 << 20}
	d.Spec.Pod.Containers = []object.Container{c}
	d.Spec.Pod.Volumes = []object.Volume{{Name: "config", ConfigMap: "web"}}
	return d
}

func configMap(text string) *object.ConfigMap {
	return &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "shop", Name: "web", Stack: "shop"}, Spec: object.ConfigMapSpec{Data: map[string]string{"app.toml": text, "one": "line"}, Reload: "restart"}}
}

func secret(password, digest string) *object.Secret {
	return &object.Secret{Meta: object.Meta{Kind: object.KindSecret, Namespace: "shop", Name: "db", Stack: "shop"}, Spec: object.SecretSpec{Reload: "restart", Data: map[string]object.Sensitive{"password": object.NewSensitive(password).WithDigest(digest)}}}
}

func service() *object.Service {
	s := &object.Service{Meta: object.Meta{Kind: object.KindService, Namespace: "shop", Name: "web", Stack: "shop"}}
	object.SetDefaults(&s.Spec)
	s.Spec.Selector, s.Spec.Ports = map[string]string{"app": "shop"}, []object.ServicePort{{Name: "http", Port: 80, Target: "http", Protocol: "tcp"}}
	return s
}

func pod(image string) *object.Pod {
	p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "shop", Name: "once", Stack: "shop"}}
	t := &object.PodTemplate{}
	object.SetDefaults(t)
	t.Containers = []object.Container{{Name: "main", Image: image, Pull: "missing", StopSignal: "SIGTERM", Seccomp: "default"}}
	p.Spec.Pod = t
	return p
}

// change makes a planned change as planner.Diff would.
func change(wave int, before, after object.Object, why func(object.FieldDiff) (string, bool)) object.PlannedChange {
	c := object.PlannedChange{Wave: wave, Before: object.Any{Object: before}, After: object.Any{Object: after}, Actions: []string{object.ActionUpdate}}
	switch {
	case before == nil:
		c.Ref, c.Actions = after.Ref(), []string{object.ActionCreate}
	case after == nil:
		c.Ref, c.Actions, c.Reason = before.Ref(), []string{object.ActionDelete}, object.ReasonNoConfig
	default:
		c.Ref = after.Ref()
	}
	c.Address = c.Ref.Address()
	if before != nil && after != nil {
		c.Fields = object.Compare(before, after).Fields()
	}
	for i := range c.Fields {
		if why != nil {
			c.Fields[i].Why, c.Fields[i].Replaces = why(c.Fields[i])
			if c.Fields[i].Replaces {
				c.Actions, c.Reason = []string{object.ActionDelete, object.ActionCreate}, object.ReasonReplaceTemplate
			}
		}
	}
	return c
}

func ref(k object.Kind, name string) object.Ref {
	return object.Ref{Kind: k, Namespace: "shop", Name: name}
}

func says(s string) func(object.FieldDiff) (string, bool) {
	return func(f object.FieldDiff) (string, bool) {
		if f.Effect == "scales" {
			return "scales in place", false
		}
		return s, false
	}
}

func samplePlan() *object.Plan {
	dep := web("web:2", 6)
	dep.Spec.Pod.Containers[0].Env = map[string]object.Text{"API": "http://api:80", "DB": "${secret.db.data.password}", "NEW": "1"}
	dep.Spec.Pod.Containers[0].Command = []string{"/web", "-v"}
	side := object.Container{Name: "log-shipper", Image: "log:1", Pull: "missing", StopSignal: "SIGTERM", Seccomp: "default"}
	dep.Spec.Pod.Containers = append(dep.Spec.Pod.Containers, side)
	old := configMap("x")
	old.Name = "old"
	p := &object.Plan{
		Format: object.PlanFormat, Version: "0.1.0", Stack: "shop", Cause: "apply", Base: 11, Index: 42, Time: now, Waves: 4,
		Changes: []object.PlannedChange{
			change(1, configMap("[app]\nname = \"shop\"\na = 1\nb = 2\nc = 3\nd = 4\nlevel = \"info\"\n"), configMap("[app]\nname = \"shop\"\na = 1\nb = 2\nc = 3\nd = 4\nlevel = \"debug\"\nmore = true\n"), says("restarts 4 pods of deployment.web")),
			change(1, secret(plaintext, "d1"), secret(plaintext+"-2", "d2"), says("restarts 4 pods of deployment.web")),
			change(2, web("web:1", 4), dep, says("rolls 4 pods")),
			change(2, pod("a:1"), pod("a:2"), func(object.FieldDiff) (string, bool) { return "replaces the pod", true }),
			change(3, nil, service(), nil),
			change(4, old, nil, nil),
		},
		OutputChanges: map[string]object.OutputChange{
			"url":   {Actions: []string{"update"}, Before: "http://a/", After: "http://b/"},
			"token": {Actions: []string{"create"}, Sensitive: true},
			"gone":  {Actions: []string{"delete"}, Before: 3.0},
		},
	}
	d := &p.Changes[2]
	d.Fields = append(d.Fields, object.FieldDiff{Path: `pod.reads["config_map/web"]`, Op: object.OpUpdate, Before: "9c1e00aa11", After: "07fa00aa11", Effect: "rolls", Why: "rolls 4 pods"})
	w := ref(object.KindDeployment, "web")
	step := func(ms int, op, name, node string, ready int, lowest bool) object.ForecastStep {
		return object.ForecastStep{At: object.Duration(time.Duration(ms) * time.Millisecond), Wave: 2, Op: op, Ref: ref(object.KindPod, name), Node: node, Workload: w, Ready: ready, Want: 6, Lowest: lowest}
	}
	p.Forecast = object.Forecast{
		Index: 42, Outcome: "healthy", Duration: object.Duration(15400 * time.Millisecond), Start: 3, Stop: 2, Unchanged: 11, PeakCPU: 61, PeakMemory: 48,
		Steps: []object.ForecastStep{
			{Wave: 1, Op: "change", Ref: ref(object.KindConfigMap, "web"), Note: "update"},
			step(0, "start", "web-7f9c-0", "node-2", 4, false), step(0, "start", "web-7f9c-1", "node-3", 4, false),
			step(3200, "stop", "web-51aa-3", "node-1", 4, true), step(3200, "start", "web-7f9c-2", "node-1", 4, false), step(12000, "stop", "web-51aa-2", "node-2", 5, false),
		},
		Placements: []object.Placement{{Pod: ref(object.KindPod, "web-7f9c-0"), Node: "node-2", Workload: w}},
		Lowest:     []object.Availability{{Workload: w, Ready: 4, Want: 4}},
		Nodes:      []object.NodePeak{{Node: "node-1", CPU: 50, Memory: 48, Pods: 5}, {Node: "node-2", CPU: 74, Memory: 40, Pods: 6}},
		Reach: []object.ReachChange{
			{From: object.ReachOutside, To: ref(object.KindService, "web"), Port: 80, Protocol: "tcp", Because: "network_policy.web isolates ingress, and nothing allows it"},
			{From: w, To: ref(object.KindService, "db"), Port: 5432, Protocol: "tcp", Allowed: true, Because: "network_policy.db allows it"},
			{From: w, To: ref(object.KindService, "dns"), Port: 53, Protocol: "udp", New: true, Because: "namespace.shop isolates ingress, and nothing allows it"},
		},
		ReachMore: 4,
	}
	return p
}

func TestPlan(t *testing.T) {
	golden(t, "plan.txt", func(w io.Writer) error { return Plan(w, samplePlan(), Options{Width: 78}) })
	golden(t, "plan-color.txt", func(w io.Writer) error { return Plan(w, samplePlan(), Options{Color: true, TTY: true}) })
	golden(t, "plan.json", func(w io.Writer) error { return PlanJSON(w, samplePlan()) })
	golden(t, "plan-none.txt", func(w io.Writer) error { return Plan(w, &object.Plan{Stack: "shop"}, Options{}) })
	golden(t, "plan-none.json", func(w io.Writer) error {
		return PlanJSON(w, &object.Plan{Format: object.PlanFormat, Stack: "shop", Cause: "apply"})
	})
	golden(t, "plan-outputs.txt", func(w io.Writer) error {
		return Plan(w, &object.Plan{Stack: "shop", OutputChanges: samplePlan().OutputChanges}, Options{})
	})
}

func TestPlanTrouble(t *testing.T) {
	p := samplePlan()
	p.Changes = p.Changes[2:3]
	f := &p.Forecast
	f.Steps, f.Reach[1].From.Namespace, f.ReachMore, f.ReachCut = nil, "other", 0, true
	w := ref(object.KindDeployment, "web")
	for i := range 40 {
		op := "start"
		if i%2 == 1 {
			op = "stop"
		}
		f.Steps = append(f.Steps, object.ForecastStep{At: object.Duration(time.Duration(i) * 900 * time.Millisecond), Wave: 2, Op: op, Ref: ref(object.KindPod, fmt.Sprintf("web-7f9c-%d", i)), Node: "node-1", Workload: w, Ready: 4, Want: 6, Lowest: i == 21})
	}
	reason := "0 of 5 nodes fit: 3 memory (asks 2Gi, 1.1Gi free at most), 2 taint dedicated=gpu"
	for i := range 7 {
		f.Unplaced = append(f.Unplaced, object.Unplaced{Pod: ref(object.KindPod, fmt.Sprintf("web-7f9c-%d", 50+i)), Reason: reason})
	}
	f.Outcome, f.Reason = "failed", "deployment.web: 7 pods fit on no node"
	golden(t, "plan-failed.txt", func(w io.Writer) error { return Plan(w, p, Options{}) })
	f.Outcome, f.Reason, f.Unplaced = "unfinished", "not done after 1h; wave 2 of 4 is not healthy", nil
	golden(t, "plan-unfinished.txt", func(w io.Writer) error { return Plan(w, p, Options{}) })
}

// What PlanJSON prints is what the schema describes: every member is declared,
// every required member is there.
func TestPlanJSONFollowsItsSchema(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(PlanSchema(), &schema); err != nil {
		t.Fatal(err)
	}
	explained := samplePlan()
	explained.Explanation = &object.Explanation{Asked: "web-0", Pod: object.Ref{Kind: object.KindPod, Namespace: "shop", Name: "web-0"}, At: 1, Node: "n1", Best: "n1", Planned: "n1", Summary: "1 of 2 nodes fit", Candidates: []object.Candidate{
		{Node: "n1", Fits: true, Score: 1, Parts: []object.ScorePart{{What: "free", Points: 1, Detail: "x"}}}, {Node: "n2", Fails: []string{"cpu"}}}}
	stepped := samplePlan()
	for _, op := range object.StepOps {
		stepped.Forecast.Steps = append(stepped.Forecast.Steps, object.ForecastStep{Op: op, Ref: explained.Explanation.Pod})
	}
	for _, p := range []*object.Plan{samplePlan(), explained, stepped, {Format: object.PlanFormat, Stack: "s", Cause: "apply"}} {
		var b bytes.Buffer
		if err := PlanJSON(&b, p); err != nil {
			t.Fatal(err)
		}
		var doc any
		if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		validate(t, "$", schema, schema, doc)
	}
}

// validate checks the part of JSON Schema that our schema uses.
func validate(t *testing.T, path string, root, s map[string]any, v any) {
	t.Helper()
	if r, ok := s["$ref"].(string); ok {
		s = root["$defs"].(map[string]any)[strings.TrimPrefix(r, "#/$defs/")].(map[string]any)
	}
	if e, ok := s["enum"].([]any); ok {
		found := false
		for _, x := range e {
			found = found || x == v
		}
		if !found {
			t.Errorf("%s: %v is not one of %v", path, v, e)
		}
	}
	var types []string
	switch x := s["type"].(type) {
	case string:
		types = []string{x}
	case []any:
		for _, y := range x {
			types = append(types, y.(string))
		}
	}
	is := "null"
	switch v.(type) {
	case string:
		is = "string"
	case bool:
		is = "boolean"
	case float64:
		is = "integer"
	case []any:
		is = "array"
	case map[string]any:
		is = "object"
	}
	if len(types) > 0 && !strings.Contains(strings.Join(types, " "), is) {
		t.Errorf("%s is a %s, not %v", path, is, types)
	}
	switch x := v.(type) {
	case []any:
		if items, ok := s["items"].(map[string]any); ok {
			for i, e := range x {
				validate(t, fmt.Sprintf("%s[%d]", path, i), root, items, e)
			}
		}
	case map[string]any:
		for _, r := range asList(s["required"]) {
			if _, ok := x[r.(string)]; !ok {
				t.Errorf("%s has no %s", path, r)
			}
		}
		props, _ := s["properties"].(map[string]any)
		for k, e := range x {
			switch p, ok := props[k].(map[string]any); {
			case ok:
				validate(t, path+"."+k, root, p, e)
			case s["additionalProperties"] != nil:
				validate(t, path+"."+k, root, s["additionalProperties"].(map[string]any), e)
			case props != nil:
				t.Errorf("%s.%s is not in the schema", path, k)
			}
		}
	}
}

func asList(v any) []any { l, _ := v.([]any); return l }

func TestDiagnostics(t *testing.T) {
	diags := object.Diagnostics{
		{Severity: object.SeverityError, Summary: "Unsupported argument", Detail: "A deployment has no attribute \"replcas\". Did you mean \"replicas\"?", Address: "deployment.web",
			Range: &object.Range{File: "main.hcl", Start: object.Position{Line: 12, Column: 3}, End: object.Position{Line: 12, Column: 10}}, Snippet: "  replcas = 4"},
		{Severity: object.SeverityError, Summary: "Missing unit", Detail: "512 has no unit; write for example \"512Mi\" (1 Mi = 1024 × 1024 bytes)", Address: "deployment.web", Path: `pod.container["web"].resources.memory`},
		{Severity: object.SeverityWarning, Summary: "Resource targeting is in effect", Detail: "The plan does not cover all that the configuration asks for. Plan again without --target when this is done."},
	}
	golden(t, "diagnostics.txt", func(w io.Writer) error { return Diagnostics(w, diags, Options{}) })
	golden(t, "diagnostics-tty.txt", func(w io.Writer) error { return Diagnostics(w, diags, Options{TTY: true, Color: true, Width: 60}) })
	golden(t, "diagnostics.json", func(w io.Writer) error { return DiagnosticsJSON(w, diags) })
	stale := &object.Error{Code: object.CodeStale, Ref: ref(object.KindDeployment, "web"), Message: "has changed since the plan was made", Hint: "Plan again.", By: "admin", At: now}
	golden(t, "error.txt", func(w io.Writer) error { return Error(w, fmt.Errorf("apply: %w", stale), Options{TTY: true}) })
	golden(t, "error-plain.txt", func(w io.Writer) error { return Error(w, errors.New("no such file"), Options{}) })
	golden(t, "error.json", func(w io.Writer) error { return ErrorJSON(w, stale) })
}

func revision(phase object.RevisionPhase) *object.Revision {
	p := samplePlan()
	c := object.CommitPlan(p, &object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "shop"}, Spec: object.StackSpec{Revision: 11}}, 12, "admin", now)
	r := c.Changes[0].Object.Object.(*object.Revision)
	r.Status.Phase, r.Status.Wave = phase, 2
	for _, x := range r.Spec.Changes {
		if x.Wave <= 2 {
			r.Status.Opened = append(r.Status.Opened, x.Ref)
		}
	}
	return r
}

func TestApplied(t *testing.T) {
	r := revision(object.RevisionHealthy)
	r.Status.Kept, r.Status.Ended = 12, now.Add(16*time.Second)
	r.Status.Lowest = []object.Availability{{Workload: ref(object.KindDeployment, "web"), Ready: 4, Want: 4}}
	golden(t, "applied.txt", func(w io.Writer) error {
		return Applied(w, Result{Revision: r, Outputs: map[string]object.Output{"url": {Value: "http://b/"}, "token": {Sensitive: true}}}, Options{})
	})
	r.Status.Kept, r.Status.Deviations = 11, []object.Deviation{{Pod: "shop/web-7f9c-0", Planned: "node-2", Actual: "node-1", Why: "node-2 is not ready"}}
	r.Status.Lowest[0].Ready = 3
	golden(t, "applied-moved.txt", func(w io.Writer) error { return Applied(w, Result{Revision: r}, Options{}) })
	for _, phase := range []object.RevisionPhase{object.RevisionReverted, object.RevisionPaused, object.RevisionSuperseded} {
		r := revision(phase)
		r.Status.Object, r.Status.Reason, r.Status.Message = ref(object.KindDeployment, "web"), object.ReasonImageNotFound, "web:2: the registry has no such image"
		r.Status.LastLog, r.Status.RevertedBy, r.Status.Ended = []string{"line one", "line two"}, 13, now.Add(9*time.Second)
		golden(t, "applied-"+string(phase)+".txt", func(w io.Writer) error { return Applied(w, Result{Revision: r}, Options{TTY: true}) })
	}
	golden(t, "detached.txt", func(w io.Writer) error { return Detached(w, "shop", 12, Options{}) })
}

func TestProgress(t *testing.T) {
	for _, tty := range []bool{false, true} {
		golden(t, fmt.Sprintf("progress-%v.txt", tty), func(w io.Writer) error {
			g := NewProgress(w, Options{TTY: tty, Width: 70})
			dep := web("web:2", 6)
			dep.Version = 50
			for i := range 4 {
				rev := revision(object.RevisionRunning)
				dep := dep.Clone().(*object.Deployment)
				dep.Status = object.DeploymentStatus{Observed: dep.Version, Phase: object.RolloutProgressing, Updated: 2 * i, Ready: 6}
				if i == 0 { // what the version before had is not this one's progress
					dep.Status = object.DeploymentStatus{Observed: dep.Version - 1, Phase: object.RolloutStable, Updated: 6, Ready: 6}
				}
				bad := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "shop", Name: "web-7f9c-0", Owner: dep.Ref()}, Status: object.PodStatus{Reason: object.ReasonImagePull, Message: "retrying in 4s"}}
				// As apply watches them: what has no pods is not among them, and is
				// done when it is written, not when its wave is.
				objects := []object.Object{dep, &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "shop", Name: "once"}, Status: object.PodStatus{Phase: object.PodRunning, Ready: i > 1}}}
				if i == 1 {
					objects = append(objects, bad)
				}
				if i == 3 {
					rev.Status.Phase, rev.Status.Ended = object.RevisionHealthy, now.Add(15*time.Second)
				}
				if err := g.Update(Rollout{Revision: rev, Objects: objects, Now: now.Add(time.Duration(i*5) * time.Second)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func TestTables(t *testing.T) {
	dep := web("web:2", 6)
	dep.Status = object.DeploymentStatus{Phase: object.RolloutFailed, Ready: 5, Updated: 1, Available: 5, Reason: object.ReasonCrashLoop, Message: "web ends with 1", Set: "web-7f9c"}
	po := pod("a:1")
	po.CreatedAt = now.Add(-75 * time.Second)
	po.Spec.Node = "node-1"
	po.Status = object.PodStatus{Phase: object.PodRunning, Ready: true, Address: "10.1.0.5", Containers: []object.ContainerStatus{{Name: "main", State: "exited", ExitCode: 1, Restarts: 3, Ready: true, LastLog: []string{"panic: no"}}}}
	node := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "node-1", Labels: map[string]string{"zone": "a"}, CreatedAt: now.Add(-50 * time.Hour)}, Spec: object.NodeSpec{Unschedulable: true}, Status: object.NodeStatus{Condition: object.NodeReady, CPU: 2000, Memory: 4 << 30, Address: "10.0.0.1:7410", Version: "0.1.0"}}
	event := &object.Event{Meta: object.Meta{Kind: object.KindEvent, Namespace: "shop", Name: "e1"}, Spec: object.EventSpec{About: po.Ref(), Level: "warning", Reason: "crash_loop", Message: "main ends with 1", Count: 3, Last: now.Add(-20 * time.Second)}}
	token := &object.Token{Meta: object.Meta{Kind: object.KindToken, Name: "t1"}, Spec: object.TokenSpec{Role: object.RoleNode, Uses: 1, Expires: now.Add(time.Hour)}}
	for _, o := range []object.Object{dep, po, node, event, token, service(), configMap("a"), secret(plaintext, "d1"), revision(object.RevisionRunning),
		&object.Ingress{Meta: object.Meta{Kind: object.KindIngress, Namespace: "shop", Name: "front"}, Spec: object.IngressSpec{Host: "shop.example", TLS: &object.IngressTLS{Secret: "tls", Redirect: true},
			Paths: []object.IngressPath{{Path: "/", Match: "prefix", Backends: []object.IngressBackend{{Service: "web", Weight: 95}, {Service: "web-new", Weight: 5}}}, {Path: "/old", Match: "exact", Redirect: &object.Redirect{To: "/", Code: 308}}}},
			Status: object.IngressStatus{Message: "secret tls does not exist"}},
		&object.NetworkPolicy{Meta: object.Meta{Kind: object.KindNetworkPolicy, Namespace: "shop", Name: "db"}, Spec: object.NetworkPolicySpec{Selector: map[string]string{"app": "db"}, Ingress: make([]object.IngressRule, 1)}},
		&object.Network{Meta: object.Meta{Kind: object.KindNetwork, Name: object.NetworkName}, Spec: object.NetworkSpec{Mode: "auto", Pods: "10.78.0.0/16", NodeBits: 24, Services: "10.79.0.0/16", NodePorts: object.NodePortsDefault}},
		&object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "shop", ChangedBy: "admin", ChangedAt: now.Add(-time.Minute)}, Spec: object.StackSpec{Revision: 12}},
		&object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: "shop"}, Spec: object.NamespaceSpec{Quota: &object.Quota{CPU: 4000, Pods: 10}}}} {
		golden(t, "table-"+string(o.Ref().Kind)+".txt", func(w io.Writer) error {
			if err := Table(w, o.Ref().Kind, []object.Object{o}, false, now, Options{}); err != nil {
				return err
			}
			return Table(w, o.Ref().Kind, []object.Object{o}, true, now, Options{Wide: true, Color: true})
		})
		golden(t, "describe-"+string(o.Ref().Kind)+".txt", func(w io.Writer) error {
			return Describe(w, Description{Object: o, Pods: []*object.Pod{po}, Events: []*object.Event{event}, Now: now}, Options{})
		})
	}
	golden(t, "table-empty.txt", func(w io.Writer) error { return Table(w, object.KindConfigMap, nil, false, now, Options{}) })
	golden(t, "history.txt", func(w io.Writer) error {
		return History(w, []*object.Revision{revision(object.RevisionHealthy)}, Options{})
	})
	golden(t, "show.txt", func(w io.Writer) error {
		return Show(w, []object.Object{dep, configMap("a\nb\n"), secret(plaintext, "d1")}, Options{})
	})
	golden(t, "rollout.txt", func(w io.Writer) error { return RolloutStatus(w, []*object.Deployment{dep}, now, Options{}) })
}

// TestOneReplicaStarts: a replica set of one pod was once announced as "1 pod start".
func TestOneReplicaStarts(t *testing.T) {
	set := func(n int) object.Any {
		return object.Any{Object: &object.ReplicaSet{Meta: object.Meta{Kind: object.KindReplicaSet, Name: "a"}, Spec: object.ReplicaSetSpec{Replicas: n}}}
	}
	for _, x := range []struct {
		before, after object.Any
		want          string
	}{
		{after: set(1), want: "1 pod starts"},
		{after: set(2), want: "2 pods start"},
		{before: set(1), want: "1 pod stops"},
		{before: set(2), want: "2 pods stop"},
	} {
		c := &object.PlannedChange{Ref: object.Ref{Kind: object.KindReplicaSet, Name: "a"}, Before: x.before, After: x.after}
		if got := summary(c); got != x.want {
			t.Errorf("summary is %q, not %q", got, x.want)
		}
	}
}
