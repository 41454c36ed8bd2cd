package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// workflow is what the tests know of a GitHub Actions workflow.
type workflow struct {
	Env  map[string]string `json:"env"`
	Jobs map[string]struct {
		If          string            `json:"if"`
		Permissions map[string]string `json:"permissions"`
		Env         map[string]string `json:"env"`
		Steps       []workflowStep    `json:"steps"`
	} `json:"jobs"`
}

type workflowStep struct {
	ID   string            `json:"id"`
	Name string            `json:"name"`
	If   string            `json:"if"`
	Uses string            `json:"uses"`
	Run  string            `json:"run"`
	With map[string]string `json:"with"`
	Env  map[string]string `json:"env"`
}

// runWorkflow is `workflow STATUS FILE NAME=VALUE…`: it runs the jobs of a workflow
// whose conditions hold, each as on a machine of its own, step by step, and
// STATUS (success, failure) is how they must end. NAMEs are those of expressions
// (github.event_name), @FILE is a file's text; an expression without a value is an error of the test.
// Its standard output and error are those of all steps.
//
// In place of GitHub: the command gh is the script's, uploads go to
// $WORK/artifacts/RUN, and a job gets an identity token only with the permission.
func (w *scriptWorld) runWorkflow(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: workflow STATUS FILE NAME=VALUE…")
	}
	known := map[string]string{"github.token": "t0ken", "github.server_url": "https://github.example", "github.repository": "acme/shop", "inputs.plan_run": ""}
	for _, a := range args[2:] {
		name, value, _ := strings.Cut(a, "=")
		if file, ok := strings.CutPrefix(value, "@"); ok {
			value = ts.ReadFile(file)
		}
		known[name] = value
	}
	var flow workflow
	text := []byte(ts.ReadFile(args[1]))
	kind, err := ctyyaml.ImpliedType(text)
	ts.Check(err)
	value, err := ctyyaml.Unmarshal(text, kind)
	ts.Check(err)
	asJSON, err := ctyjson.Marshal(value, kind)
	ts.Check(err)
	ts.Check(json.Unmarshal(asJSON, &flow))

	status, ran := "success", 0
	var log bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(flow.Jobs)) {
		job := flow.Jobs[name]
		r := &runner{ts: ts, known: maps.Clone(known), log: &log}
		if !r.holds(job.If, true) {
			continue
		}
		ran++
		r.start(w, name, job.Permissions)
		for _, env := range []map[string]string{flow.Env, job.Env} {
			r.set(env)
		}
		for _, s := range job.Steps {
			r.step(s)
		}
		if r.failed {
			status = "failure"
		}
	}
	ts.Logf("%s", log.String())
	ts.Check(os.WriteFile(ts.MkAbs("log"), log.Bytes(), 0o600))
	if ran == 0 || status != args[0] {
		ts.Fatalf("%d jobs ran and ended in %s, want %s", ran, status, args[0])
	}
}

// runner is the machine of one job.
type runner struct {
	ts     *testscript.TestScript
	known  map[string]string
	log    *bytes.Buffer
	dir    string // the checkout
	home   string
	env    []string
	failed bool
}

func (r *runner) start(w *scriptWorld, job string, permissions map[string]string) {
	fmt.Fprintf(r.log, "## job %s\n", job)
	r.dir, r.home = r.ts.MkAbs("repo"), w.t.TempDir()
	var may []string
	for p, level := range permissions {
		may = append(may, p+":"+level)
	}
	slices.Sort(may)
	r.env = []string{
		"PATH=" + r.ts.Getenv("PATH"), "WORK=" + r.ts.MkAbs("."), "HOME=" + r.home, "GITHUB_REPOSITORY=acme/shop", "GITHUB_SHA=" + r.known["github.sha"],
		"GITHUB_OUTPUT=" + filepath.Join(r.home, "output"), "GITHUB_STEP_SUMMARY=" + r.ts.MkAbs("summary"), "GH_MAY=" + strings.Join(may, " "), "CI=true",
	}
	if permissions["id-token"] == "write" {
		for _, name := range []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"} {
			r.env = append(r.env, name+"="+r.ts.Getenv(name))
		}
	}
}

func (r *runner) set(env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		r.env = append(r.env, name+"="+r.text(env[name]))
	}
}

func (r *runner) step(s workflowStep) {
	if !r.holds(s.If, !r.failed) {
		return
	}
	fmt.Fprintf(r.log, "# %s%s\n", s.Name, s.Uses)
	if strings.Contains(s.Run, "${{") {
		r.ts.Fatalf("step %q puts an expression into a command: whoever names a branch could run what they like", s.Name)
	}
	switch action, _, _ := strings.Cut(s.Uses, "@"); action {
	case "":
	case "actions/checkout", "actions/setup-go":
		return
	case "actions/upload-artifact":
		to := filepath.Join(r.ts.MkAbs("artifacts"), r.known["github.run_id"], s.With["name"])
		b, err := os.ReadFile(filepath.Join(r.dir, s.With["path"]))
		r.ts.Check(err)
		r.ts.Check(os.MkdirAll(to, 0o755))
		r.ts.Check(os.WriteFile(filepath.Join(to, filepath.Base(s.With["path"])), b, 0o600))
		r.ts.Check(os.Remove(filepath.Join(r.dir, s.With["path"]))) // the next job has another machine
		return
	default:
		r.ts.Fatalf("nothing stands in for the action %s", s.Uses)
	}
	script := filepath.Join(r.home, "step.sh")
	r.ts.Check(os.WriteFile(script, []byte(s.Run), 0o600))
	cmd := exec.Command("bash", "-e", script) // as GitHub does
	before := len(r.env)
	r.set(s.Env)
	cmd.Dir, cmd.Env = r.dir, slices.Clone(r.env)
	r.env = r.env[:before]
	cmd.Stdout, cmd.Stderr = r.log, r.log
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(r.log, "# %v\n", err)
		r.failed = true
	}
	out, err := os.ReadFile(filepath.Join(r.home, "output"))
	if err == nil && s.ID != "" {
		for line := range strings.Lines(string(out)) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			r.known["steps."+s.ID+".outputs."+name] = value
		}
	}
	_ = os.Remove(filepath.Join(r.home, "output"))
}

var expression = regexp.MustCompile(`\$\{\{\s*([^}]*?)\s*\}\}`)

func (r *runner) text(s string) string {
	return expression.ReplaceAllStringFunc(s, func(e string) string { return r.value(expression.FindStringSubmatch(e)[1]) })
}

func (r *runner) value(e string) string {
	if text, ok := strings.CutPrefix(e, "'"); ok {
		return strings.TrimSuffix(text, "'")
	}
	v, ok := r.known[e]
	if !ok && !strings.HasPrefix(e, "steps.") { // a step that was left out has no outputs
		r.ts.Fatalf("no value is given for %s", e)
	}
	return v
}

// holds judges a condition of == and != joined by && and ||.
func (r *runner) holds(condition string, otherwise bool) bool {
	always := strings.Contains(condition, "always()")
	if !otherwise && !always {
		return false
	}
	if condition == "" {
		return otherwise
	}
	for any := range strings.SplitSeq(condition, "||") {
		all := true
		for c := range strings.SplitSeq(any, "&&") {
			c = strings.TrimSpace(c)
			if left, right, ok := strings.Cut(c, " == "); ok {
				all = all && r.value(left) == r.value(right)
			} else if left, right, ok := strings.Cut(c, " != "); ok {
				all = all && r.value(left) != r.value(right)
			} else if c != "always()" {
				r.ts.Fatalf("the condition %q is not understood", condition)
			}
		}
		if all {
			return true
		}
	}
	return false
}
