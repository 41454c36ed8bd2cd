package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// source starts the server that a script's checks ask.
func (w *scriptWorld) source(ts *testscript.TestScript, _ bool, _ []string) {
	w.says.Store("prometheus", "0.001")
	w.says.Store("json", `{"p99": 120}`)
	s := httptest.NewServer(http.HandlerFunc(func(a http.ResponseWriter, r *http.Request) {
		what, _ := w.says.Load("prometheus")
		if token, guarded := w.says.Load("token"); guarded && r.Header.Get("Authorization") != "Bearer "+token.(string) {
			a.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/json" {
			if what, _ = w.says.Load("json"); what == "away" {
				a.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			fmt.Fprint(a, what)
			return
		}
		if q := r.FormValue("query"); what == "nonsense" || strings.Contains(q, "{set}") {
			fmt.Fprint(a, "<html>"+q)
			return
		}
		a.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(a, `{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, %q]}]}}`, what)
	}))
	ts.Defer(s.Close)
	ts.Setenv("BERTH_VAR_source", s.URL)
}

// answer changes what the source says.
func (w *scriptWorld) answer(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: answer prometheus|json WHAT, answer token THE ONE THAT IT WANTS TO SEE")
	}
	w.says.Store(args[0], args[1])
}
