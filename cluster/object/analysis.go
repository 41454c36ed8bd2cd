package object

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reasons of rollouts that a check has stopped.
const (
	ReasonCheck        = "check_failed"       // more measurements failed than it puts up with
	ReasonInconclusive = "check_inconclusive" // its source tells nothing that could be judged
)

// Check is a question about a new version that is asked again and again while it is
// rolled out. It has exactly one source.
type Check struct {
	Name              string            `json:"name" hcl:"name,label" doc:"Name of the check."`
	Interval          Duration          `json:"interval" hcl:"interval" default:"10s" doc:"Time between two measurements, one second at least. The first comes so long after the check began, that of a run at once."`
	Count             int               `json:"count,omitempty" hcl:"count" doc:"How many measurements end the check. Default: 5 in a step and before or after a blue-green switch, 1 of a run there; of a check beside the steps no end, it goes on as long as the rollout does. With a count that, too, has to pass before the rollout is complete."`
	FailureLimit      int               `json:"failure_limit,omitempty" hcl:"failure_limit" doc:"Measurements that may fail; one more fails the rollout."`
	InconclusiveLimit int               `json:"inconclusive_limit" hcl:"inconclusive_limit" default:"3" doc:"Measurements in a row that may tell nothing, because the source is away or answers nonsense; one more pauses the rollout until it answers again or a person decides. They never count as passed."`
	SuccessCondition  Condition         `json:"success_condition,omitempty" hcl:"success_condition" doc:"What the value must be for a measurement to pass. With a failure_condition as well, what is neither tells nothing."`
	FailureCondition  Condition         `json:"failure_condition,omitempty" hcl:"failure_condition" doc:"The value with which a measurement fails."`
	Signal            *SignalSource     `json:"signal,omitempty" hcl:"signal,block" doc:"What Berth itself knows of the new version's pods."`
	HTTP              *HTTPSource       `json:"http,omitempty" hcl:"http,block" doc:"A URL that the leading master asks."`
	Run               *RunSource        `json:"run,omitempty" hcl:"run,block" doc:"A pod that runs to its end: exit code 0 passes, any other fails."`
	Prometheus        *PrometheusSource `json:"prometheus,omitempty" hcl:"prometheus,block" doc:"A query that the leading master puts to a Prometheus."`
}

// The metrics of a SignalSource.
const (
	SignalReadiness  = "readiness"
	SignalRestarts   = "restarts"
	SignalErrorRate  = "error_rate"
	SignalLatencyP50 = "latency_p50"
	SignalLatencyP90 = "latency_p90"
	SignalLatencyP99 = "latency_p99"
)

// SignalSource is a measurement of Berth's own.
type SignalSource struct {
	Metric      string `json:"metric" hcl:"metric,required" enum:"readiness,restarts,error_rate,latency_p50,latency_p90,latency_p99" doc:"Of the new version's pods; readiness: the share of them that is ready, 0 to 1; restarts: of containers since the check began; error_rate: the share of the ingresses' requests that were answered with 5xx; latency_p50, latency_p90, latency_p99: the time that so many percent of those requests took at most. Requests count since the last measurement that told something."`
	MinRequests int    `json:"min_requests" hcl:"min_requests" default:"1" doc:"With fewer requests error_rate and latency tell nothing."`
}

// HTTPSource asks a URL.
type HTTPSource struct {
	URL      string          `json:"url" hcl:"url,required" doc:"What to ask, as the masters reach it; {set} and {stable} stand for the replica sets of the new and the old version. Redirects are not followed."`
	Method   string          `json:"method" hcl:"method" default:"GET" enum:"GET,HEAD,POST" doc:"Method of the request."`
	Body     string          `json:"body,omitempty" hcl:"body" doc:"Body of a POST, as application/json; with the same placeholders."`
	Status   int             `json:"status,omitempty" hcl:"status" doc:"The status that the answer must have, else the measurement fails. Default: any 2xx; with json, another tells nothing."`
	JSON     string          `json:"json,omitempty" hcl:"json" doc:"Path of the value in the answer that the conditions judge, in gjson's syntax: slo.burn_rate, items.0.ok."`
	Headers  map[string]Text `json:"headers,omitempty" hcl:"headers" doc:"Headers to ask with. Values may refer to secret.NAME.data.KEY; only the leading master puts the secret in, when it asks."`
	Username Text            `json:"username,omitempty" hcl:"username" doc:"User of basic authentication; with a password."`
	Password Text            `json:"password,omitempty" hcl:"password" doc:"Password of basic authentication: secret.NAME.data.KEY."`
	CA       string          `json:"ca,omitempty" hcl:"ca" doc:"Certificates in PEM of who may certify an https server, instead of those that the masters' machines trust."`
	Timeout  Duration        `json:"timeout" hcl:"timeout" default:"10s" doc:"An answer that takes longer tells nothing."`
}

// RunSource runs a pod to its end.
type RunSource struct {
	Pod     PodTemplate `json:"pod" hcl:"pod,block,required" effect:"in_place" doc:"What runs. It is not started again whatever its restart says. BERTH_SET and BERTH_STABLE in its environment are the replica sets of the new and the old version."`
	Timeout Duration    `json:"timeout" hcl:"timeout" default:"5m" doc:"A pod that runs longer fails the measurement; one that cannot be started in this time tells nothing."`
}

// PrometheusSource asks a Prometheus.
type PrometheusSource struct {
	Address  string          `json:"address" hcl:"address,required" doc:"URL of the server, as the masters reach it."`
	Query    string          `json:"query" hcl:"query,required" doc:"PromQL with one value as its result; {set} and {stable} stand for the replica sets of the new and the old version. No value, several, and NaN tell nothing."`
	Headers  map[string]Text `json:"headers,omitempty" hcl:"headers" doc:"Headers to ask with. Values may refer to secret.NAME.data.KEY; only the leading master puts the secret in, when it asks."`
	Username Text            `json:"username,omitempty" hcl:"username" doc:"User of basic authentication; with a password."`
	Password Text            `json:"password,omitempty" hcl:"password" doc:"Password of basic authentication: secret.NAME.data.KEY."`
	CA       string          `json:"ca,omitempty" hcl:"ca" doc:"Certificates in PEM of who may certify an https server, instead of those that the masters' machines trust."`
	Timeout  Duration        `json:"timeout" hcl:"timeout" default:"10s" doc:"An answer that takes longer tells nothing."`
}

// Networked reports whether measuring needs more than the state of the cluster:
// then the leading master does it, else the deployment's controller.
func (c *Check) Networked() bool {
	switch {
	case c.Run != nil:
		return false
	case c.Signal != nil:
		return c.Traffic()
	}
	return true
}

// Traffic reports whether the check looks at the requests of the ingresses.
func (c *Check) Traffic() bool {
	return c.Signal != nil && c.Signal.Metric != SignalReadiness && c.Signal.Metric != SignalRestarts
}

// Times is how many measurements end the check; 0: it goes on beside the steps.
func (c *Check) Times(beside bool) int {
	switch {
	case c.Count > 0 || beside:
		return c.Count
	case c.Run != nil:
		return 1
	}
	return 5
}

// Subject is what the placeholders of a source stand for.
type Subject struct{ Set, Stable string }

// In puts the names into a text.
func (s Subject) In(text string) string {
	return strings.NewReplacer("{set}", s.Set, "{stable}", s.Stable).Replace(text)
}

// CheckPhase is where a check is.
type CheckPhase string

// The phases of a check.
const (
	CheckRunning      CheckPhase = "running"
	CheckPassed       CheckPhase = "passed"
	CheckFailed       CheckPhase = "failed"
	CheckInconclusive CheckPhase = "inconclusive" // too often in a row; it is measured on
)

// CheckStatus is how far a check is. All of it is in the deployment's status, so
// that a new leader goes on with the next measurement.
type CheckStatus struct {
	Name         string     `json:"name"`
	Step         string     `json:"step,omitempty"` // that it belongs to, or AfterSwitch; else beside the steps, or before a switch
	Phase        CheckPhase `json:"phase"`
	Since        time.Time  `json:"since"`          // when it began
	Last         time.Time  `json:"last,omitzero"`  // when it was measured last
	Base         int        `json:"base,omitempty"` // restarts when it began
	Times        int        `json:"times,omitempty"`
	Passed       int        `json:"passed,omitempty"`
	Failed       int        `json:"failed,omitempty"`
	Inconclusive int        `json:"inconclusive,omitempty"` // in a row
	Runs         int        `json:"runs,omitempty"`         // measurements of any result
	Value        string     `json:"value,omitempty"`        // of the last measurement that had one
	Message      string     `json:"message,omitempty"`      // why the last one did not pass
}

// CheckResult is what one measurement says.
type CheckResult string

// The results of a measurement.
const (
	ResultPassed       CheckResult = "passed"
	ResultFailed       CheckResult = "failed"
	ResultInconclusive CheckResult = "inconclusive" // nobody can tell
)

// Measurement is one answer of a check's source, judged.
type Measurement struct {
	At      time.Time
	Result  CheckResult
	Value   string // for people
	Message string // why it did not pass
}

// Inconclusive is a measurement that tells nothing.
func Inconclusive(format string, args ...any) Measurement {
	return Measurement{Result: ResultInconclusive, Message: fmt.Sprintf(format, args...)}
}

// Due is when the next measurement is to be taken.
func (s *CheckStatus) Due(c *Check) time.Time {
	switch {
	case !s.Last.IsZero():
		return s.Last.Add(c.Interval.D())
	case c.Run != nil:
		return s.Since
	}
	return s.Since.Add(c.Interval.D())
}

// Open reports whether measurements are still taken.
func (s *CheckStatus) Open() bool {
	return s.Phase == CheckRunning || s.Phase == CheckInconclusive
}

// Record counts a measurement and says where the check is after it.
func (s *CheckStatus) Record(c *Check, m Measurement) {
	s.Last, s.Message = m.At, m.Message
	s.Runs++
	if m.Value != "" {
		s.Value = m.Value
	}
	switch m.Result {
	case ResultPassed:
		s.Passed++
		s.Inconclusive = 0
	case ResultFailed:
		s.Failed++
		s.Inconclusive = 0
	default:
		s.Inconclusive++
	}
	switch {
	case s.Failed > c.FailureLimit:
		s.Phase = CheckFailed
	case s.Times > 0 && s.Passed+s.Failed >= s.Times:
		s.Phase = CheckPassed
	case s.Inconclusive > c.InconclusiveLimit:
		s.Phase = CheckInconclusive
	default:
		s.Phase = CheckRunning
	}
}

// Pending is a check of a deployment that is measured on.
type Pending struct {
	Check *Check
	Index int // in the status's checks
	CheckStatus
}

// Subject is what a pending check's placeholders stand for.
func (d *Deployment) Subject() Subject {
	return Subject{Set: d.Status.Set, Stable: d.Status.Proven}
}

// Pending lists the checks that are measured on, in the order of the status: none
// while a person has paused the rollout, or something else has failed it.
func (d *Deployment) Pending() []Pending {
	st := &d.Status
	c := st.Canary
	if c == nil || len(c.Checks) == 0 || c.Set != st.Set || d.Spec.Paused || st.Observed != d.Version || st.Reason != "" && st.Reason != ReasonInconclusive {
		return nil
	}
	var out []Pending
	for i, s := range c.Checks {
		if check := d.Spec.Update.Check(s.Step, s.Name); check != nil && s.Open() {
			out = append(out, Pending{check, i, s})
		}
	}
	return out
}

// Measured is the deployment's status with one more measurement of a pending check.
func (d *Deployment) Measured(p Pending, m Measurement) *DeploymentStatus {
	st, c := d.Status, *d.Status.Canary
	c.Checks = slices.Clone(c.Checks) // the old ones are the snapshot's
	c.Checks[p.Index].Record(p.Check, m)
	st.Canary = &c
	return &st
}

// checks are all that the update has.
func (u *Update) checks() iter.Seq[*Check] {
	return func(yield func(*Check) bool) {
		lists := [][]Check{u.Checks}
		for i := range u.Steps {
			lists = append(lists, u.Steps[i].Checks)
		}
		if u.BlueGreen != nil {
			lists = append(lists, u.BlueGreen.Checks, u.BlueGreen.ChecksAfter)
		}
		for _, list := range lists {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

// Check finds a check by its step and name; nil if there is none.
func (u *Update) Check(step, name string) *Check {
	list := u.Checks
	if u.Strategy == "blue_green" {
		if list = u.Switch().Checks; step == AfterSwitch {
			list = u.Switch().ChecksAfter
		}
	}
	for i := range u.Steps {
		if step != "" && u.Steps[i].Name == step {
			list = u.Steps[i].Checks
		}
	}
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// Stalled reports whether a person can step over what the canary is at: a pause for
// one, or a check that has not passed.
func (c *CanaryStatus) Stalled() bool {
	if c == nil {
		return false
	}
	for i := range c.Checks {
		if s := &c.Checks[i]; s.Phase != CheckPassed && (s.Step != "" || s.Phase != CheckRunning || s.Times > 0) {
			return true
		}
	}
	return c.Waits
}

// Reading is a value that a source has told.
type Reading struct {
	Number float64
	Text   string // of a value that is none
	Words  string // for people; default: the value
}

func (r Reading) words() string {
	switch {
	case r.Words != "":
		return r.Words
	case r.Text != "":
		return strconv.Quote(r.Text)
	}
	return strconv.FormatFloat(r.Number, 'g', 6, 64)
}

// Judge says what a value means by the check's conditions.
func (c *Check) Judge(r Reading) Measurement {
	m := Measurement{Result: ResultPassed, Value: r.words()}
	if r.Text == "" && math.IsNaN(r.Number) {
		return Inconclusive("the value is not a number (NaN)")
	}
	failed, passed := false, false
	for _, x := range []struct {
		c   Condition
		out *bool
	}{{c.FailureCondition, &failed}, {c.SuccessCondition, &passed}} {
		if x.c == "" {
			continue
		}
		holds, err := x.c.Holds(r)
		if err != nil {
			return Inconclusive("%v", err)
		}
		*x.out = holds
	}
	switch {
	case failed:
		m.Result, m.Message = ResultFailed, fmt.Sprintf("%s is %s", m.Value, c.FailureCondition)
	case passed || c.SuccessCondition == "":
	case c.FailureCondition != "":
		m.Result, m.Message = ResultInconclusive, fmt.Sprintf("%s is neither %s nor %s", m.Value, c.SuccessCondition, c.FailureCondition)
	default:
		m.Result, m.Message = ResultFailed, fmt.Sprintf("%s is not %s", m.Value, c.SuccessCondition)
	}
	return m
}

// Condition compares a value: "< 1%", ">= 0.99", "< 250ms", "== ok".
type Condition string

// comparison is a Condition taken apart.
type comparison struct {
	op     string
	number float64
	text   string
	word   bool // the operand is text
}

// parse takes the condition apart. A share counts as its hundredth, a duration in seconds.
func (c Condition) parse() (comparison, error) {
	s := strings.TrimSpace(string(c))
	for _, op := range []string{"<=", ">=", "==", "!=", "<", ">"} {
		rest, ok := strings.CutPrefix(s, op)
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		x := comparison{op: op}
		if n, err := strconv.ParseFloat(rest, 64); err == nil && !math.IsNaN(n) {
			x.number = n
			return x, nil
		}
		if p, ok := strings.CutSuffix(rest, "%"); ok {
			if n, err := strconv.ParseFloat(strings.TrimSpace(p), 64); err == nil {
				x.number = n / 100
				return x, nil
			}
		}
		if d, err := time.ParseDuration(rest); err == nil {
			x.number = d.Seconds()
			return x, nil
		}
		if t, err := strconv.Unquote(rest); err == nil {
			rest = t
		}
		x.text, x.word = rest, true
		if rest == "" || op != "==" && op != "!=" {
			return x, fmt.Errorf("%q compares with no number; write for example \"< 1%%\", \">= 0.99\", \"< 250ms\" or \"== ok\"", c)
		}
		return x, nil
	}
	return comparison{}, fmt.Errorf("%q does not begin with one of <, <=, >, >=, == and !=; write for example \"< 1%%\"", c)
}

// Holds reports whether the value is as the condition says; an error means that the
// two cannot be compared.
func (c Condition) Holds(r Reading) (bool, error) {
	x, err := c.parse()
	if err != nil {
		return false, err
	}
	n, text := r.Number, r.Text
	switch {
	case x.word:
		if text == "" {
			text = strconv.FormatFloat(n, 'g', -1, 64)
		}
		return (text == x.text) == (x.op == "=="), nil
	case text != "":
		if n, err = strconv.ParseFloat(text, 64); err != nil || math.IsNaN(n) {
			return false, fmt.Errorf("%s is not a number that could be %s", r.words(), c)
		}
	}
	switch x.op {
	case "<":
		return n < x.number, nil
	case "<=":
		return n <= x.number, nil
	case ">":
		return n > x.number, nil
	case ">=":
		return n >= x.number, nil
	case "==":
		return n == x.number, nil
	}
	return n != x.number, nil
}
