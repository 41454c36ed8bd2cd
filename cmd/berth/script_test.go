package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/clustertest"
	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/hcl/policy"
	"github.com/berthdev/berth/node/fake"
	"github.com/berthdev/berth/planner"
)

// TestMain lets the scripts run this very binary as berth.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"berth": main})
}

// images are what the simulated nodes know; every other image starts at once and
// is ready at once.
var images = fake.Script{
	"app:missing": {Missing: true},
	"app:crash":   {Crash: 50 * time.Millisecond, ExitCode: 3, Log: []string{"reading the configuration", "panic: no database"}},
	"app:slow":    {Ready: time.Hour},
	"app:once":    {Exit: 10 * time.Millisecond},
}

// TestScripts runs testdata/script/*.txtar. Besides testscript's own commands:
//
//	cluster [MASTERS [NODES]]   start a cluster of the script's own and write the
//	                            client configuration (default: 1 master, 3 nodes);
//	                            the masters' addresses are in $MASTERS
//	code N berth …              run berth, which must exit with N
//	as NAME ROLE                write $HOME/.berth/NAME, a configuration of another identity
//	sub FILE OLD NEW            replace text in a file
//	match FILE|stdout REGEXP    like grep, for text with spaces over several lines
//	lose NAME|leader            end a master as if its process had died
//	json FILE|stdout PATH VALUE a member of a JSON document, by a.b.0.c
//	behave IMAGE ok|missing|moved
//	                            from now on; moved: its tag stands for other content
//	registry TAG …              an image registry that has these tags of every image;
//	                            its address is in $REGISTRY
//	soon REGEXP berth …         run berth again and again until it prints that
//	containers FILE             write which containers run, by pod and id
//	samepods FILE [DEPLOYMENT]  the pods that were printed as JSON are those in FILE:
//	                            the same names, births and nodes; of a deployment, all
//	                            those in FILE are among them
//	killed N berth …            run berth until it was killed N times, each time a little later;
//	                            the word ROUND is the number of the run
//	source                      a server that checks ask: a Prometheus, and /json; its address
//	                            is in $BERTH_VAR_source
//	answer prometheus VALUE|nonsense, answer json TEXT|away
//	                            what it says from now on
//	issuer                      start a CI system of the script's own; its address is in $ISSUER
//	job CLAIM=VALUE…            the job that it runs from now on
//	identity FILE               write the job's identity token
//	workflow STATUS FILE …      run a GitHub workflow's steps; their output is in the file log
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scripts", err)
	}
	examples, err := filepath.Abs(filepath.Join(root, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			w := &scriptWorld{t: t}
			testscript.Run(t, testscript.Params{
				Files: []string{file}, RequireExplicitExec: false,
				Setup: func(e *testscript.Env) error {
					home := filepath.Join(e.WorkDir, "home")
					e.Setenv("HOME", home)
					e.Setenv("NO_COLOR", "")
					e.Setenv("BERTH_PIN_IMAGES", "cluster") // no registry is asked unless a script has one
					e.Setenv("EXAMPLES", examples)
					return os.MkdirAll(filepath.Join(home, ".berth"), 0o700)
				},
				Condition: func(name string) (bool, error) {
					if name != "root" {
						return false, fmt.Errorf("there is no condition %q", name)
					}
					return os.Geteuid() == 0, nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"cluster": w.cluster, "code": exitsWith, "as": w.as, "editplan": editPlan, "match": matches,
					"lose": w.lose, "json": jsonMember, "behave": w.behave, "killed": killed, "soon": soon, "capture": capture,
					"samepods": samePods, "containers": w.containers, "registry": w.registry,
					"issuer": w.startCI, "job": w.runJob, "identity": w.writeToken, "workflow": w.runWorkflow,
					"source": w.source, "answer": w.answer,
				},
			})
		})
	}
}

// scriptWorld is one script's cluster.
type scriptWorld struct {
	t    *testing.T
	c    *clustertest.Cluster
	ci   *ci
	says sync.Map  // what the source of checks answers
	tags *sync.Map // of the registry, if there is one
}

func samePods(ts *testscript.TestScript, neg bool, args []string) {
	read := func(file string) (out []string) {
		var list struct{ Items []object.Pod }
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &list))
		for _, p := range list.Items {
			out = append(out, fmt.Sprintf("%s, born at %d, on %s", p.Name, p.Created, p.Spec.Node))
		}
		return out
	}
	was, is := read(args[0]), read("stdout")
	missing := slices.DeleteFunc(slices.Clone(was), func(p string) bool { return slices.Contains(is, p) })
	if len(was) == 0 || len(missing) > 0 || len(args) == 1 && len(is) != len(was) {
		ts.Fatalf("other pods:\n%s\nwere:\n%s", strings.Join(is, "\n"), strings.Join(was, "\n"))
	}
}

func (w *scriptWorld) cluster(ts *testscript.TestScript, neg bool, args []string) {
	number := func(i, otherwise int) int {
		if len(args) <= i {
			return otherwise
		}
		n, err := strconv.Atoi(args[i])
		ts.Check(err)
		return n
	}
	w.c = clustertest.Start(w.t, clustertest.Options{
		Masters: number(0, 1), Nodes: number(1, 3), Zones: 3, Script: images, Check: planner.Check, Plan: forecast, Policies: &policy.Engine{},
		// As in earnest: on a busy machine a shorter one elects others in the middle of a script.
		ElectionTimeout: consensus.DefaultElectionTimeout, NodeTimeout: 5 * time.Second,
	})
	ts.Setenv("MASTERS", strings.Join(w.c.Addresses(), ","))
	w.as(ts, false, []string{"config", "admin"})
}

func (w *scriptWorld) as(ts *testscript.TestScript, neg bool, args []string) {
	name, role := args[0], args[1]
	who := name
	if name == "config" {
		who = "ann"
	}
	dir := filepath.Join(ts.Getenv("HOME"), ".berth")
	w.c.WriteIdentity(filepath.Join(dir, "pki", name), who, object.Role(role))
	f := client.File{Current: "test", Clusters: map[string]client.Context{
		"test": {Addresses: w.c.Addresses(), CA: "pki/" + name + "/ca.crt", Cert: "pki/" + name + "/tls.pem"},
	}}
	ts.Check(f.Write(filepath.Join(dir, name)))
}

func (w *scriptWorld) lose(ts *testscript.TestScript, neg bool, args []string) {
	name := args[0]
	if name == "leader" {
		name = w.c.Leader()
	}
	w.c.Kill(name)
}

func (w *scriptWorld) containers(ts *testscript.TestScript, neg bool, args []string) {
	var lines []string
	for p := range state.All[*object.Pod](w.c.Snapshot(), object.KindPod) {
		for _, c := range p.Status.Containers {
			if c.State == "running" && !p.Spec.Stop {
				lines = append(lines, fmt.Sprintf("%s %s %s\n", p.Ref(), c.Name, c.ID))
			}
		}
	}
	slices.Sort(lines)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(lines, "")), 0o644))
}

func (w *scriptWorld) behave(ts *testscript.TestScript, neg bool, args []string) {
	for _, n := range []string{"n1", "n2", "n3"} {
		w.c.Node(n).Behave(args[0], fake.Behavior{Missing: args[1] == "missing", Content: strings.TrimPrefix(args[1], "ok")})
	}
}

// registry answers what content a tag stands for, and nothing else: registry 1 2=other
// @old has tags 1 and 2, whose contents are "1" and "other", and "old" without a tag.
func (w *scriptWorld) registry(ts *testscript.TestScript, neg bool, args []string) {
	digest := func(content string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))) }
	if w.tags == nil {
		w.tags = &sync.Map{}
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, tag, found := strings.Cut(r.URL.Path, "/manifests/")
			content, known := w.tags.Load(tag)
			if !found || !known {
				http.NotFound(rw, r)
				return
			}
			rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			rw.Header().Set("Docker-Content-Digest", content.(string))
			rw.Header().Set("Content-Length", "100")
		}))
		w.t.Cleanup(srv.Close)
		ts.Setenv("REGISTRY", strings.TrimPrefix(srv.URL, "http://"))
	}
	w.tags.Clear()
	for _, arg := range args {
		tag, content, other := strings.Cut(arg, "=")
		if !other {
			content = strings.TrimPrefix(tag, "@")
		}
		w.tags.Store(tag, digest(content))
		w.tags.Store(digest(content), digest(content))
	}
}

// exitsWith runs a command that must end with a certain exit code.
func exitsWith(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// editPlan changes the JSON inside a saved plan, as somebody would who would like
// another one to be applied: editplan FILE OLD NEW.
// soon runs a command until its output matches.
func soon(ts *testscript.TestScript, neg bool, args []string) {
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(30 * time.Second); ; {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			for _, look := range []string{"get pods -A --wide", "get nodes", "events -A"} { // why not
				_ = ts.Exec("berth", strings.Fields(look)...)
			}
			ts.Fatalf("it did not print %s", args[0])
		}
	}
}

// killed runs a command whole once, to know how long it takes, and then N times in
// which it is killed after another part of that time.
func killed(ts *testscript.TestScript, neg bool, args []string) {
	rounds, err := strconv.Atoi(args[0])
	ts.Check(err)
	exe, err := os.Executable()
	ts.Check(err)
	start := func(round int) *exec.Cmd {
		cmd := exec.Command(exe)
		cmd.Args = []string{args[1]} // what testscript.Main goes by
		for _, a := range args[2:] {
			cmd.Args = append(cmd.Args, strings.ReplaceAll(a, "ROUND", strconv.Itoa(round)))
		}
		cmd.Dir = ts.MkAbs(".")
		for _, name := range []string{"HOME", "PATH", "MASTERS"} {
			cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
		}
		ts.Check(cmd.Start())
		return cmd
	}
	began := time.Now()
	ts.Check(start(0).Wait())
	whole := time.Since(began)
	tries := 0
	for cut := 0; cut < rounds; {
		if tries++; tries > 5*rounds {
			ts.Fatalf("only %d of %d runs were killed", cut, tries)
		}
		began := time.Now()
		cmd := start(tries)
		kill := time.AfterFunc(whole*time.Duration(cut)/time.Duration(rounds), func() { _ = cmd.Process.Kill() })
		var exit *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &exit) && !exit.Exited() {
			cut++
		} else { // it was faster than those before
			ts.Check(err)
			whole = min(whole, time.Since(began))
		}
		kill.Stop()
	}
	ts.Logf("%d runs were killed, %d ended before", rounds, tries-rounds)
}

func editPlan(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	in, err := zip.NewReader(strings.NewReader(text), int64(len(text)))
	ts.Check(err)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	edited := false
	for _, f := range in.File {
		r, err := f.Open()
		ts.Check(err)
		b, err := io.ReadAll(r)
		ts.Check(err)
		edited = edited || bytes.Contains(b, []byte(args[1]))
		w, err := z.Create(f.Name)
		ts.Check(err)
		_, err = w.Write(bytes.ReplaceAll(b, []byte(args[1]), []byte(args[2])))
		ts.Check(err)
	}
	ts.Check(z.Close())
	if !edited {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o600))
}

func matches(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile("(?s)" + args[1])
	ts.Check(err)
	if re.MatchString(ts.ReadFile(args[0])) == neg {
		ts.Fatalf("%s: found %q: %t", args[0], args[1], neg)
	}
}

// capture is capture FILE REGEXP NAME: what the expression's group matches first
// becomes a variable of the script.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	found := re.FindStringSubmatch(ts.ReadFile(args[0]))
	if len(found) < 2 {
		ts.Fatalf("%s: %q is not found", args[0], args[1])
	}
	ts.Setenv(args[2], found[1])
}

func jsonMember(ts *testscript.TestScript, neg bool, args []string) {
	var doc any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &doc); err != nil {
		ts.Fatalf("%s is not JSON: %v", args[0], err)
	}
	at := doc
	for _, part := range strings.Split(args[1], ".") {
		switch x := at.(type) {
		case map[string]any:
			at = x[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(x) {
				ts.Fatalf("%s: no element %s of %d", args[1], part, len(x))
			}
			at = x[i]
		default:
			ts.Fatalf("%s: nothing has a member %q", args[1], part)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	ts.Check(enc.Encode(at))
	got := strings.Trim(strings.TrimSpace(b.String()), `"`)
	if (got == args[2]) == neg {
		ts.Fatalf("%s is %s, want %s", args[1], got, args[2])
	}
}
