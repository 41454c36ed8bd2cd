package object

import (
	"net/url"
	"strings"
	"time"
)

// checkChecks finds checks that stand where nothing would run them, and runs whose
// pods a service would take for the deployment's own.
func (u *Update) checkChecks(c *checker, at *step, pod *PodTemplate) {
	each := func(block string, up *step, list []Check, beside bool) {
		for i := range list {
			here := &step{up: up, name: block, label: list[i].Name, key: true}
			if n := list[i].Times(beside); n > 0 && n <= list[i].FailureLimit {
				c.fail(here.to("failure_limit"), "Check that cannot fail", "Of %d measurements %d may fail. Lower failure_limit, or raise count.", n, list[i].FailureLimit)
			}
			if r := list[i].Run; r != nil {
				r.checkLabels(c, here.to("run").to("pod"), pod)
			}
		}
	}
	if len(u.Checks) > 0 && u.Strategy != "canary" && (u.Strategy != "rolling" || len(u.Steps) == 0) {
		hint := "Checks beside the steps belong to strategy = \"canary\", or to a rolling update with steps."
		if u.By != "" {
			hint = "An update by " + u.By + " has no steps that a check could run beside. Leave by out and write steps, or take strategy = \"canary\"."
		} else if u.Strategy == "blue_green" {
			hint = "Put it into blue_green { … }: a check runs before the connections go over, a check_after after that."
		}
		c.fail(&step{up: at, name: "check", label: u.Checks[0].Name, key: true}, "Check that would not run", "%s", hint)
	}
	each("check", at, u.Checks, true)
	for i := range u.Steps {
		each("check", &step{up: at, name: "step", label: u.Steps[i].Name, key: true}, u.Steps[i].Checks, false)
	}
	if u.BlueGreen != nil {
		each("check", at.to("blue_green"), u.BlueGreen.Checks, false)
		each("check_after", at.to("blue_green"), u.BlueGreen.ChecksAfter, false)
	}
}

func (x *Check) check(c *checker, at *step) {
	sources := 0
	for _, set := range []bool{x.Signal != nil, x.HTTP != nil, x.Run != nil, x.Prometheus != nil} {
		if set {
			sources++
		}
	}
	if sources != 1 {
		c.fail(at, "Not one source", "A check has exactly one of the blocks signal, http, run and prometheus; this has %d.", sources)
	}
	if x.Interval.D() < time.Second {
		c.fail(at.to("interval"), "Wrong duration", "interval is 1s at least; \"10s\" is the default.")
	}
	judged := x.Signal != nil || x.Prometheus != nil || x.HTTP != nil && x.HTTP.JSON != ""
	for _, f := range []struct {
		name string
		c    Condition
	}{{"success_condition", x.SuccessCondition}, {"failure_condition", x.FailureCondition}} {
		if f.c == "" {
			continue
		}
		if _, err := f.c.parse(); err != nil {
			c.fail(at.to(f.name), "Wrong condition", "%s.", strings.ToUpper(err.Error()[:1])+err.Error()[1:])
		}
		switch {
		case x.Run != nil:
			c.fail(at.to(f.name), "Superfluous attribute", "A run passes with exit code 0; there is no value to compare.")
		case x.HTTP != nil && x.HTTP.JSON == "":
			c.fail(at.to(f.name), "Superfluous attribute", "Without json = \"PATH\" in the http block there is no value to compare; the status decides.")
		}
	}
	if judged && x.SuccessCondition == "" && x.FailureCondition == "" {
		c.fail(at.to("success_condition"), "Missing attribute", "Say what the value must be, success_condition = \"< 1%%\", or must not be, failure_condition.")
	}
}

func (s *HTTPSource) check(c *checker, at *step) {
	c.url(s.URL, at.to("url"))
	if s.Status != 0 && (s.Status < 100 || s.Status > 599) {
		c.fail(at.to("status"), "Wrong status", "%d is not a status of HTTP; they are 100 to 599.", s.Status)
	}
	if s.Body != "" && s.Method != "POST" {
		c.fail(at.to("body"), "Superfluous attribute", "A %s has no body; write method = \"POST\".", s.Method)
	}
	if s.JSON != "" && s.Method == "HEAD" {
		c.fail(at.to("json"), "Superfluous attribute", "The answer to a HEAD has no body to look into.")
	}
	s.access().check(c, at)
	c.timeout(s.Timeout, time.Minute, at)
}

func (s *PrometheusSource) check(c *checker, at *step) {
	c.url(s.Address, at.to("address"))
	s.access().check(c, at)
	c.timeout(s.Timeout, time.Minute, at)
}

func (s *RunSource) check(c *checker, at *step) { c.timeout(s.Timeout, 24*time.Hour, at) }

// checkLabels refuses labels that the deployment's pods have, too: a service would
// lead to the pod of a check.
func (s *RunSource) checkLabels(c *checker, at *step, pod *PodTemplate) {
	for _, k := range sortedKeys(s.Pod.Labels) {
		if v, ok := pod.Labels[k]; ok && v == s.Pod.Labels[k] {
			c.fail(&step{up: at, name: "labels", label: k, key: true}, "Label of the deployment's pods", "A service that selects %s=%s would lead to the pod of the check, too. Give it another value.", k, v)
		}
	}
}

func (c *checker) url(text string, at *step) {
	if text == "" {
		return // missing, which has been said
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		c.fail(at, "Wrong URL", "%q is not a URL of HTTP; write for example \"http://prometheus.example:9090\".", text)
		return
	}
	if u.User != nil {
		c.fail(at, "Password in a URL", "Everybody who may read the deployment would see it. Write username and password = secret.NAME.data.KEY instead.")
	}
}

func (c *checker) timeout(d Duration, most time.Duration, at *step) {
	if d <= 0 || d.D() > most {
		c.fail(at.to("timeout"), "Wrong duration", "timeout is more than 0s and %s at most.", Duration(most))
	}
}
