package analysis

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// sources is a server that answers paths in ways that a source may.
func sources(t *testing.T) string {
	t.Helper()
	m := http.NewServeMux()
	say := func(path string, status int, body string) {
		m.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	say("/ok", 200, "fine")
	say("/bad", 500, "no")
	say("/teapot", 418, "")
	say("/json", 200, `{"slo": {"burn": 0.5, "state": "ok", "good": true, "list": [1], "none": null, "empty": ""}}`)
	say("/broken", 500, `{"slo": {"burn": 0.5}}`)
	say("/text", 200, "0.5")
	say("/html", 200, "<html>")
	say("/large", 200, strings.Repeat("x", maxBody+1))
	m.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	m.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	m.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"got": %q}`, r.Method+" "+r.URL.Query().Get("set")+" "+string(b))
	})
	m.HandleFunc("/api/v1/query", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		vector := func(values ...string) string {
			out := make([]string, len(values))
			for i, v := range values {
				out[i] = fmt.Sprintf(`{"metric": {"i": "%d"}, "value": [1, "%s"]}`, i, v)
			}
			return `{"status": "success", "data": {"resultType": "vector", "result": [` + strings.Join(out, ",") + `]}}`
		}
		switch q := r.FormValue("query"); q {
		case `errors{set="web-2"}`:
			fmt.Fprint(w, vector("0.002"))
		case "none":
			fmt.Fprint(w, vector())
		case "two":
			fmt.Fprint(w, vector("1", "2"))
		case "nan":
			fmt.Fprint(w, vector("NaN"))
		case "scalar":
			fmt.Fprint(w, `{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}`)
		case "range":
			fmt.Fprint(w, `{"status": "success", "data": {"resultType": "matrix", "result": []}}`)
		case "nonsense":
			fmt.Fprint(w, "<html>hello</html>")
		default:
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"status": "error", "errorType": "bad_data", "error": "cannot parse %s"}`, q)
		}
	})
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	return s.URL
}

func TestMeasure(t *testing.T) {
	at := sources(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := "http://" + l.Addr().String()
	l.Close()
	get := func(path, json string, success object.Condition) object.Check {
		return object.Check{SuccessCondition: success, HTTP: &object.HTTPSource{URL: at + path, Method: "GET", JSON: json}}
	}
	status := func(path string, n int) object.Check {
		c := get(path, "", "")
		c.HTTP.Status = n
		return c
	}
	query := func(q string, success object.Condition) object.Check {
		return object.Check{SuccessCondition: success, Prometheus: &object.PrometheusSource{Address: at, Query: q}}
	}
	post := get("/echo?set={set}", "got", "== \"POST web-2 from web-1\"")
	post.HTTP.Method, post.HTTP.Body = "POST", "from {stable}"
	gone := get("", "", "")
	gone.HTTP.URL = away
	hangs := get("/hangs", "", "")
	hangs.HTTP.Timeout = object.Duration(50 * time.Millisecond)
	lost := query("scalar", "> 1")
	lost.Prometheus.Address = away
	clouds := get("", "", "")
	clouds.HTTP.URL = "http://169.254.169.254/latest/meta-data"
	s := NewSources()
	defer s.Close()
	for name, x := range map[string]struct {
		check  object.Check
		result object.CheckResult
		told   string // part of the message, or of the value
	}{
		"2xx":                     {get("/ok", "", ""), object.ResultPassed, "status 200"},
		"5xx":                     {get("/bad", "", ""), object.ResultFailed, "answered with status 500"},
		"a redirect is no answer": {get("/moved", "", ""), object.ResultFailed, "status 302"},
		"the status asked for":    {status("/teapot", 418), object.ResultPassed, "status 418"},
		"another status":          {status("/ok", 418), object.ResultFailed, "status 200, not 418"},
		"away":                    {gone, object.ResultInconclusive, "connection refused"},
		"slow":                    {hangs, object.ResultInconclusive, "no answer in time"},
		"a machine's own":         {clouds, object.ResultInconclusive, "link-local addresses are not asked"},
		"a number":                {get("/json", "slo.burn", "< 1"), object.ResultPassed, "0.5"},
		"a number too high":       {get("/json", "slo.burn", "< 0.5"), object.ResultFailed, "0.5 is not < 0.5"},
		"a text":                  {get("/json", "slo.state", "== ok"), object.ResultPassed, `"ok"`},
		"a truth value":           {get("/json", "slo.good", "== true"), object.ResultPassed, "true"},
		"a text as a number":      {get("/json", "slo.state", "< 1"), object.ResultInconclusive, "not a number"},
		"a list":                  {get("/json", "slo.list", "< 1"), object.ResultInconclusive, "neither a number"},
		"null":                    {get("/json", "slo.none", "< 1"), object.ResultInconclusive, "neither a number"},
		"empty":                   {get("/json", "slo.empty", "== ok"), object.ResultInconclusive, "empty text"},
		"nothing there":           {get("/json", "slo.missing", "< 1"), object.ResultInconclusive, "nothing at slo.missing"},
		"JSON with 500":           {get("/broken", "slo.burn", "< 1"), object.ResultInconclusive, "status 500"},
		"a bare number":           {get("/text", "@this", "< 1"), object.ResultPassed, "0.5"},
		"no JSON":                 {get("/html", "a", "< 1"), object.ResultInconclusive, "not JSON"},
		"too large":               {get("/large", "a", "< 1"), object.ResultInconclusive, "larger than 1Mi"},
		"placeholders":            {post, object.ResultPassed, "POST web-2 from web-1"},
		"Prometheus":              {query(`errors{set="{set}"}`, "< 1%"), object.ResultPassed, "0.002"},
		"Prometheus, too high":    {query(`errors{set="{set}"}`, "< 0.1%"), object.ResultFailed, "0.002 is not < 0.1%"},
		"Prometheus, a scalar":    {query("scalar", "== 3"), object.ResultPassed, "3"},
		"Prometheus, no value":    {query("none", "< 1"), object.ResultInconclusive, "has 0 values"},
		"Prometheus, two":         {query("two", "< 1"), object.ResultInconclusive, "has 2 values"},
		"Prometheus, NaN":         {query("nan", "< 1"), object.ResultInconclusive, "NaN"},
		"Prometheus, a range":     {query("range", "< 1"), object.ResultInconclusive, "a matrix"},
		"Prometheus, misspelt":    {query("oops", "< 1"), object.ResultInconclusive, "bad_data: cannot parse oops"},
		"no Prometheus":           {query("nonsense", "< 1"), object.ResultInconclusive, "did not answer as a Prometheus does"},
		"Prometheus, away":        {lost, object.ResultInconclusive, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			if h := x.check.HTTP; h != nil && h.Timeout == 0 {
				h.Timeout = object.Duration(10 * time.Second)
			}
			if p := x.check.Prometheus; p != nil {
				p.Timeout = object.Duration(10 * time.Second)
			}
			m := s.Measure(t.Context(), &x.check, object.Subject{Set: "web-2", Stable: "web-1"}, nil)
			if m.Result != x.result || !strings.Contains(m.Message+" "+m.Value, x.told) {
				t.Errorf("%s: %q %q, want %s with %q", m.Result, m.Value, m.Message, x.result, x.told)
			}
		})
	}
}

// A report that comes again counts once, and what another node says adds up.
func TestTrafficCountsOnce(t *testing.T) {
	var sum Traffic
	now := time.Unix(1000, 0)
	report := func(until time.Time, requests, errors uint64) *object.Traffic {
		took := make([]uint64, len(object.TrafficBounds())+1)
		took[3] = requests
		return &object.Traffic{Until: until, Sets: []object.SetTraffic{{Namespace: "shop", Set: "web-2", Requests: requests, Errors: errors, Took: took}}}
	}
	sum.Add("n1", report(now, 10, 1), now)
	before := sum.Of("shop", "web-2")
	sum.Add("n1", report(now, 10, 1), now)
	if again := sum.Of("shop", "web-2"); again.Requests != 10 || again.Errors != 1 {
		t.Errorf("the same report counted twice: %+v", again)
	}
	sum.Add("n2", report(now, 5, 5), now)
	sum.Add("n1", report(now.Add(time.Second), 5, 0), now)
	if x := sum.Of("shop", "web-2").Since(before); x.Requests != 10 || x.Errors != 5 || x.Took[3] != 10 {
		t.Errorf("since: %+v", x)
	}
	if x := sum.Of("other", "web-2"); x.Requests != 0 {
		t.Errorf("another namespace's: %+v", x)
	}
	if before.Took[3] != 10 {
		t.Errorf("an answer has changed: %+v", before)
	}
	sum.Add("n1", report(now.Add(forgetSets+time.Hour), 0, 0), now.Add(forgetSets+time.Hour))
	sum.Reset()
	if x := sum.Of("shop", "web-2"); x.Requests != 0 {
		t.Errorf("after a reset: %+v", x)
	}
}
