package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/berthdev/berth/"

// mayImport is the table of docs/architecture.md: which of our packages each
// package may import. A prefix ending in /… stands for everything below it.
var mayImport = map[string][]string{
	"cmd/berth":          {"…"},
	"cmd/internal/view":  {"cluster/object"},
	"cmd/internal/dev":   {},
	"cmd/internal/bench": {"…"},
	"hcl":                {"cluster/object"},
	"planner":            {"cluster/object", "cluster/state", "cluster/scheduler", "cluster/controller"},
	"cluster/object":     {},
	"cluster/state":      {"cluster/object"},
	"cluster/scheduler":  {"cluster/object", "cluster/state"},
	"cluster/rollout":    {},
	"cluster/controller": {"cluster/object", "cluster/state", "cluster/rollout"},
	"cluster/consensus":  {"cluster/object", "cluster/state"},
	"cluster/api":        {"cluster/object", "cluster/state", "cluster/pki", "cluster/seal"},
	"cluster/client":     {"cluster/object", "cluster/pki"},
	"cluster/pki":        {},
	"cluster/seal":       {"cluster/object"},
	"cluster/master":     {"cluster/…"},
	"cluster/clustertest": {"cluster/object", "cluster/state", "cluster/master", "cluster/client", "cluster/consensus", "cluster/pki", "cluster/seal",
		"node/agent", "node/fake"},
	"node/agent":        {"cluster/object"},
	"node/runtime":      {"cluster/object"},
	"node/ociarchive":   {},
	"node/network":      {"cluster/object"},
	"node/proxy":        {"cluster/object"},
	"node/volume":       {"cluster/object"},
	"node/probe":        {"cluster/object"},
	"node/fake":         {"cluster/object", "node/agent"},
	"examples/shop/web": {},
}

// doors: a foreign library is spoken to in one package only, so that replacing
// it changes one package.
var doors = map[string]struct {
	at  []string
	why string
}{
	"github.com/hashicorp/raft":         {[]string{"cluster/consensus"}, "the rest of the masters must not know how agreement is reached"},
	"github.com/hashicorp/raft-boltdb/": {[]string{"cluster/consensus"}, "the log's file is consensus' own affair"},
	"go.etcd.io/bbolt":                  {[]string{"cluster/consensus"}, "the log's file is consensus' own affair"},
	"github.com/containerd/":            {[]string{"node/runtime"}, "the agent keeps promises; which daemon runs the containers is runtime's affair"},
	"github.com/coreos/go-iptables/":    {[]string{"node/proxy"}, "two writers of iptables rules would undo each other"},
	"github.com/hashicorp/hcl/":         {[]string{"hcl"}, "everybody else works with objects, not with syntax"},
	"github.com/zclconf/go-cty":         {[]string{"hcl"}, "everybody else works with objects, not with the language's values"},
	"github.com/alecthomas/kong":        {[]string{"cmd/berth"}, "flags are the command line's affair"},
	"github.com/danielgtaylor/huma/":    {[]string{"cluster/api"}, "routes are the API's affair"},
	"github.com/tidwall/btree":          {[]string{"cluster/state"}, "only the state knows how it is stored"},
	"github.com/vishvananda/netlink":    {[]string{"node/network", "cmd/internal/dev"}, "links are made by the pod network, and by the development hosts"},
}

// pure packages are functions of (snapshot, now): the plan rehearses with them
// what the masters will do with them.
var pure = []string{"cluster/object", "cluster/state", "cluster/scheduler", "cluster/rollout", "cluster/controller", "planner"}

// impureImports and impureCalls give the reason with each ban.
var impureImports = map[string]string{
	"math/rand":    "a plan made twice must be the same to the byte",
	"math/rand/v2": "a plan made twice must be the same to the byte",
	"crypto/rand":  "a plan made twice must be the same to the byte",
	"os":           "a forecast must not depend on the machine it is made on",
	"os/exec":      "a forecast must not act",
	"net":          "a forecast must not act",
	"net/http":     "a forecast must not act",
	"io/ioutil":    "a forecast must not depend on the machine it is made on",
	"log":          "what is worth telling is an Event or a Diagnostic",
	"log/slog":     "what is worth telling is an Event or a Diagnostic",
	"context":      "nothing here waits, so there is nothing to cancel",
}

var impureCalls = map[string]string{
	"time.Now": "the proposer reads the clock; the plan's clock is virtual", "time.Since": "it reads the clock", "time.Until": "it reads the clock",
	"time.Sleep": "nothing here waits", "time.After": "nothing here waits", "time.NewTimer": "nothing here waits",
	"time.NewTicker": "nothing here waits", "time.Tick": "nothing here waits", "time.AfterFunc": "nothing here waits",
}

type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func ourPackages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "../../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 15 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

func TestImportsFollowTheArchitecture(t *testing.T) {
	for _, p := range ourPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := mayImport[name]
		if !known && !strings.Contains(name, "/internal/") && !strings.Contains(name+"/", "test/") {
			t.Errorf("%s is not in the table: put it into mayImport and docs/architecture.md with its one job, or elsewhere", name)
			continue
		}
		for _, imp := range p.Imports {
			if our, ok := strings.CutPrefix(imp, module); ok && known && !permitted(allowed, our, name) {
				t.Errorf("%s imports %s; the architecture lets it import only %v", name, our, allowed)
			}
			for lib, d := range doors {
				if strings.HasPrefix(imp, lib) && !slices.ContainsFunc(d.at, func(at string) bool { return name == at || strings.HasPrefix(name, at+"/") }) {
					t.Errorf("%s imports %s, whose only door is %v: %s", name, imp, d.at, d.why)
				}
			}
		}
	}
}

func permitted(allowed []string, our, self string) bool {
	if strings.HasPrefix(our, self+"/") { // its own inner packages
		return true
	}
	for _, a := range allowed {
		if prefix, ok := strings.CutSuffix(a, "…"); ok && strings.HasPrefix(our, prefix) || a == our {
			return true
		}
	}
	return false
}

func TestThePureCoreIsPure(t *testing.T) {
	byName := map[string]listed{}
	for _, p := range ourPackages(t) {
		byName[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	for _, name := range pure {
		p, ok := byName[name]
		if !ok {
			t.Errorf("there is no package %s", name)
			continue
		}
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range impurities(f) {
				t.Errorf("%s: %s", fset.Position(bad.pos), bad.what)
			}
		}
	}
}

type impurity struct {
	pos  token.Pos
	what string
}

func impurities(f *ast.File) []impurity {
	var out []impurity
	timeName := "time"
	for _, imp := range f.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		if why, bad := impureImports[path]; bad {
			out = append(out, impurity{imp.Pos(), fmt.Sprintf("imports %s: %s", path, why)})
		}
		if path == "time" && imp.Name != nil {
			timeName = imp.Name.Name
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.GoStmt:
			out = append(out, impurity{x.Pos(), "starts a goroutine: the order in which things happen would not be ours"})
		case *ast.SelectStmt:
			out = append(out, impurity{x.Pos(), "selects: the order in which things happen would not be ours"})
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok && id.Name == timeName {
				if why, bad := impureCalls["time."+x.Sel.Name]; bad {
					out = append(out, impurity{x.Pos(), fmt.Sprintf("uses time.%s: %s", x.Sel.Name, why)})
				}
			}
		}
		return true
	})
	return out
}

func TestTheGuardSeesImpurity(t *testing.T) {
	const src = `package x
import ( t "time"; "math/rand" )
func f(c chan int) { go f(c); _ = t.Now(); _ = rand.Int(); select { case <-c: } }`
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := impurities(f); len(got) != 4 {
		t.Errorf("found %d impurities, want the import, the goroutine, the clock and the select: %v", len(got), got)
	}
}
