package object

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestConditions(t *testing.T) {
	n := func(f float64) Reading { return Reading{Number: f} }
	for _, x := range []struct {
		c    Condition
		r    Reading
		want bool
		err  bool
	}{
		{"< 1%", n(.005), true, false}, {"< 1%", n(.01), false, false}, {"<= 1 %", n(.01), true, false}, {"> 99", n(100), true, false},
		{">= 250ms", n(.25), true, false}, {"< 250ms", n(.3), false, false}, {"== 3", n(3), true, false}, {"!= 3", n(3), false, false}, {"==1e2", n(100), true, false},
		{"== ok", Reading{Text: "ok"}, true, false}, {"!= ok", Reading{Text: "bad"}, true, false}, {`== "a b"`, Reading{Text: "a b"}, true, false},
		{"== 3", Reading{Text: "3"}, true, false}, {"< 3", Reading{Text: "2.5"}, true, false}, {"< 3", Reading{Text: "many"}, false, true}, {"== ok", n(3), false, false},
	} {
		got, err := x.c.Holds(x.r)
		if got != x.want || (err != nil) != x.err {
			t.Errorf("%q of %+v: %v, %v", x.c, x.r, got, err)
		}
	}
	for _, bad := range []Condition{"1%", "< many", "=", "==", "=> 3", "< ", "~ 3"} {
		if _, err := bad.parse(); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, x := range []struct {
		success, failure Condition
		value            float64
		want             CheckResult
	}{
		{"< 1", "", 0, ResultPassed}, {"< 1", "", 1, ResultFailed}, {"", "> 5", 5, ResultPassed}, {"", "> 5", 6, ResultFailed},
		{"< 1", "> 5", 3, ResultInconclusive}, {"< 1", "> 5", 0, ResultPassed}, {"< 1", "> 5", 6, ResultFailed}, {"< 1", "", math.NaN(), ResultInconclusive},
		{"< 9", "< 9", 1, ResultFailed}, // who says both means the worse
	} {
		c := Check{SuccessCondition: x.success, FailureCondition: x.failure}
		if m := c.Judge(Reading{Number: x.value}); m.Result != x.want || (m.Result == ResultPassed) != (m.Message == "") {
			t.Errorf("%q, %q of %v: %+v", x.success, x.failure, x.value, m)
		}
	}
}

// Whatever comes in whatever order: a check passes only when enough has been told and
// no more failed than may, and nothing is told by what tells nothing.
func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Check{Interval: Duration(time.Second), Count: rapid.IntRange(0, 5).Draw(t, "count"), FailureLimit: rapid.IntRange(0, 3).Draw(t, "limit"), InconclusiveLimit: rapid.IntRange(0, 2).Draw(t, "inconclusive")}
		s := CheckStatus{Phase: CheckRunning, Times: c.Times(true)}
		passed, failed, row := 0, 0, 0
		for i := 0; s.Open() && i < 30; i++ {
			m := Measurement{At: time.Unix(int64(i), 0), Result: rapid.SampledFrom([]CheckResult{ResultPassed, ResultFailed, ResultInconclusive}).Draw(t, "result")}
			switch m.Result {
			case ResultPassed:
				passed, row = passed+1, 0
			case ResultFailed:
				failed, row = failed+1, 0
			default:
				row++
			}
			s.Record(&c, m)
			want := CheckRunning
			switch {
			case failed > c.FailureLimit:
				want = CheckFailed
			case c.Count > 0 && passed+failed >= c.Count:
				want = CheckPassed
			case row > c.InconclusiveLimit:
				want = CheckInconclusive
			}
			if s.Phase != want || s.Runs != i+1 || !s.Due(&c).Equal(m.At.Add(time.Second)) {
				t.Fatalf("%+v, want %s", s, want)
			}
		}
	})
}

func TestSignals(t *testing.T) {
	took := make([]uint64, len(TrafficBounds())+1)
	took[6], took[9] = 90, 10 // up to 100 ms and up to 1 s
	x := SetTraffic{Set: "web-2", Requests: 100, Errors: 3, Took: took}
	for metric, want := range map[string]float64{SignalErrorRate: .03, SignalLatencyP50: .05 + .05*50/90, SignalLatencyP90: .1, SignalLatencyP99: .5 + .5*.9} {
		r, err := x.Signal(&SignalSource{Metric: metric, MinRequests: 100})
		if err != nil || math.Abs(r.Number-want) > 1e-9 || !strings.Contains(r.Words, "of 100 requests") {
			t.Errorf("%s: %+v, %v; want %v", metric, r, err, want)
		}
	}
	if _, err := x.Signal(&SignalSource{Metric: SignalErrorRate, MinRequests: 101}); err == nil {
		t.Error("too few requests tell something")
	}
	if _, err := (SetTraffic{Requests: 5}).Signal(&SignalSource{Metric: SignalLatencyP99}); err == nil {
		t.Error("streams have a latency")
	}
	took[6], took[9], took[len(took)-1] = 0, 0, 1
	if r, err := x.Signal(&SignalSource{Metric: SignalLatencyP50}); err != nil || r.Number != 60 {
		t.Errorf("beyond all bounds: %+v, %v", r, err)
	}
}

func TestValidateChecks(t *testing.T) {
	pod := func(labels map[string]string) PodTemplate {
		p := PodTemplate{Labels: labels, Restart: "always", Containers: []Container{{Name: "c", Image: "i"}}}
		SetDefaults(&p.Containers[0])
		return p
	}
	check := func(change func(*Check)) Check {
		c := Check{Name: "slo"}
		SetDefaults(&c)
		change(&c)
		for _, s := range []any{c.Signal, c.HTTP, c.Prometheus, c.Run} {
			switch s := s.(type) {
			case *SignalSource:
				if s != nil {
					SetDefaults(s)
				}
			case *HTTPSource:
				if s != nil && s.Method == "" {
					m := *s
					SetDefaults(s)
					s.URL, s.JSON, s.Status, s.Body = m.URL, m.JSON, m.Status, m.Body
				}
			case *PrometheusSource:
				if s != nil {
					m := *s
					SetDefaults(s)
					s.Address, s.Query = m.Address, m.Query
				}
			case *RunSource:
				if s != nil {
					m := *s
					SetDefaults(s)
					s.Pod = m.Pod
				}
			}
		}
		return c
	}
	for name, x := range map[string]struct {
		change func(*Check)
		want   string // path and summary; empty: fine
	}{
		"http":          {func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a/b"} }, ""},
		"run":           {func(c *Check) { c.Run = &RunSource{Pod: pod(map[string]string{"app": "smoke"})} }, ""},
		"none":          {func(*Check) {}, "update.step[\"a\"].check[\"slo\"]: Not one source"},
		"two":           {func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a"}; c.Run = &RunSource{Pod: pod(nil)} }, "Not one source"},
		"metric":        {func(c *Check) { c.Signal = &SignalSource{Metric: "error_rat"}; c.SuccessCondition = "< 1" }, "signal.metric: Unknown value"},
		"no condition":  {func(c *Check) { c.Signal = &SignalSource{Metric: SignalErrorRate} }, "success_condition: Missing attribute"},
		"condition":     {func(c *Check) { c.Signal = &SignalSource{Metric: SignalErrorRate}; c.FailureCondition = "5%" }, "failure_condition: Wrong condition"},
		"nothing to it": {func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a"}; c.SuccessCondition = "< 1" }, "success_condition: Superfluous attribute"},
		"of a run":      {func(c *Check) { c.Run = &RunSource{Pod: pod(nil)}; c.SuccessCondition = "== 0" }, "success_condition: Superfluous attribute"},
		"url":           {func(c *Check) { c.HTTP = &HTTPSource{URL: "prometheus:9090"} }, "http.url: Wrong URL"},
		"password":      {func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a:b@c"} }, "http.url: Password in a URL"},
		"body":          {func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a", Body: "x"} }, "http.body: Superfluous attribute"},
		"status":        {func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a", Status: 999} }, "http.status: Wrong status"},
		"interval":      {func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a"}; c.Interval = Duration(time.Millisecond) }, "interval: Wrong duration"},
		"cannot fail":   {func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a"}; c.FailureLimit = 5 }, "failure_limit: Check that cannot fail"},
		"labels":        {func(c *Check) { c.Run = &RunSource{Pod: pod(map[string]string{"app": "web"})} }, "run.pod.labels[\"app\"]: Label of the deployment's pods"},
		"address": {func(c *Check) {
			c.Prometheus = &PrometheusSource{Address: "x", Query: "up"}
			c.SuccessCondition = "> 0"
		}, "prometheus.address: Wrong URL"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Deployment{Meta: Meta{Kind: KindDeployment, Namespace: "default", Name: "web"}}
			SetDefaults(&d.Spec)
			d.Spec.Pod = pod(map[string]string{"app": "web"})
			d.Spec.Update.Strategy = "canary"
			d.Spec.Update.Steps = []CanaryStep{{Name: "a", Weight: 5, Checks: []Check{check(x.change)}}}
			told := ""
			for _, f := range Validate(d) {
				told += f.Path + ": " + f.Summary + "\n"
			}
			if x.want == "" && told != "" || !strings.Contains(told, x.want) {
				t.Errorf("told:\n%swant %q", told, x.want)
			}
		})
	}
	d := &Deployment{Meta: Meta{Kind: KindDeployment, Namespace: "default", Name: "web"}}
	SetDefaults(&d.Spec)
	d.Spec.Pod = pod(nil)
	d.Spec.Update.Checks = []Check{check(func(c *Check) { c.HTTP = &HTTPSource{URL: "http://a"} })}
	for _, strategy := range []string{"rolling", "blue_green", "recreate"} {
		d.Spec.Update.Strategy = strategy
		if found := Validate(d); len(found) != 1 || found[0].Summary != "Check that would not run" {
			t.Errorf("%s: %v", strategy, found)
		}
	}
	// A check after the switch is told from one before it, and has to be able to fail as well.
	named := func(n int, limit int) []Check {
		return []Check{check(func(c *Check) { c.HTTP, c.Count, c.FailureLimit = &HTTPSource{URL: "http://a"}, n, limit })}
	}
	u := &d.Spec.Update
	u.Strategy, u.Checks, u.BlueGreen = "blue_green", nil, &BlueGreen{Checks: named(1, 0), ChecksAfter: named(2, 2)}
	name := u.BlueGreen.Checks[0].Name
	if before, after := u.Check("", name), u.Check(AfterSwitch, name); before == nil || before.Count != 1 || after == nil || after.Count != 2 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if found := Validate(d); len(found) != 1 || found[0].Summary != "Check that cannot fail" || !strings.Contains(found[0].Path, "blue_green.check_after[") {
		t.Errorf("%+v", found)
	}
}
