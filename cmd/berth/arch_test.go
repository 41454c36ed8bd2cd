package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/berthdev/berth/"

// allowance is one row of the package table of docs/architecture.md.
type allowance struct {
	imports []string // of our packages; a prefix ending in /… stands for everything below it
	pure    bool
}

// architecture reads the package table of docs/architecture.md, the only place
// where it is written down: what the page says is what the tests hold.
func architecture(t *testing.T) map[string]allowance {
	t.Helper()
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)`( \\*\\*pure\\*\\*)? \\| [^|]+ \\| ([^|]+) \\|$").FindAllStringSubmatch(string(page), -1)
	table := map[string]allowance{}
	for _, row := range rows {
		if _, twice := table[row[1]]; twice {
			t.Errorf("docs/architecture.md has two rows for %s", row[1])
		}
		table[row[1]] = allowance{pure: row[2] != ""}
	}
	for _, row := range rows {
		a := table[row[1]]
		for _, word := range strings.Fields(row[3]) {
			switch word {
			case "–":
			case "all":
				a.imports = append(a.imports, "…")
			default:
				var meant []string
				for name := range table {
					if name == word || strings.HasSuffix(name, "/"+word) {
						meant = append(meant, name)
					}
				}
				if len(meant) != 1 {
					t.Errorf("docs/architecture.md: %s may import %q, which means %v: write enough of the path to tell one row of the table", row[1], word, meant)
					continue
				}
				a.imports = append(a.imports, meant[0])
			}
		}
		table[row[1]] = a
	}
	if len(table) < 15 {
		t.Fatalf("docs/architecture.md has %d rows of packages only: has the table's form changed?", len(table))
	}
	return table
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
	"github.com/containerd/":            {[]string{"node/runtime", "cmd/internal/registries"}, "the agent keeps promises; which daemon runs the containers is runtime's affair, and the client only asks registries"},
	"github.com/coreos/go-iptables/":    {[]string{"node/proxy"}, "two writers of iptables rules would undo each other"},
	"github.com/hashicorp/hcl/":         {[]string{"hcl"}, "everybody else works with objects, not with syntax"},
	"github.com/creachadair/jrpc2":      {[]string{"hcl/lsp"}, "editors talk to the language server; everybody else speaks HTTP"},
	"github.com/zclconf/go-cty":         {[]string{"hcl"}, "everybody else works with objects, not with the language's values"},
	"github.com/alecthomas/kong":        {[]string{"cmd/berth"}, "flags are the command line's affair"},
	"github.com/danielgtaylor/huma/":    {[]string{"cluster/api"}, "routes are the API's affair"},
	"github.com/tidwall/btree":          {[]string{"cluster/state"}, "only the state knows how it is stored"},
	"github.com/coreos/go-oidc":         {[]string{"cluster/oidc"}, "the API asks whose a token is, not how tokens are signed"},
	"github.com/miekg/dns":              {[]string{"node/dns"}, "everybody else works with names, not with messages"},
	"github.com/vishvananda/netlink":    {[]string{"node/network", "node/proxy", "cmd/internal/dev"}, "links are made by the pod network, and by the development hosts; the proxy forgets flows"},
}

// impureImports and impureCalls are what a pure package does not do, for the
// plan rehearses with it what the masters will do with it; each with the reason.
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
	Doc        string
	GoFiles    []string
	Imports    []string
}

func ourPackages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,Imports", "../../...").Output()
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
	table, seen := architecture(t), map[string]bool{}
	for _, p := range ourPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		row, known := table[name]
		seen[name] = true
		if !known {
			t.Errorf("%s is not in the table of docs/architecture.md: give it a row with its one job, or put it elsewhere", name)
			continue
		}
		for _, imp := range p.Imports {
			if our, ok := strings.CutPrefix(imp, module); ok && !permitted(row.imports, our, name) {
				t.Errorf("%s imports %s; docs/architecture.md lets it import only %v", name, our, row.imports)
			}
			for lib, d := range doors {
				if strings.HasPrefix(imp, lib) && !slices.ContainsFunc(d.at, func(at string) bool { return name == at || strings.HasPrefix(name, at+"/") }) {
					t.Errorf("%s imports %s, whose only door is %v: %s", name, imp, d.at, d.why)
				}
			}
		}
	}
	for name := range table {
		if !seen[name] {
			t.Errorf("docs/architecture.md has a row for %s, which is no package", name)
		}
	}
}

// TestPackagesSayTheirJob: the comment of a package tells its one job, what it
// must not know, and where data comes from and goes, in a few sentences.
func TestPackagesSayTheirJob(t *testing.T) {
	sentence := regexp.MustCompile(`[.:?](\s|$)`)
	for _, p := range ourPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if p.Doc == "" {
			t.Errorf("%s has no package comment", name)
			continue
		}
		comment := ""
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc == nil {
				continue
			}
			if comment != "" {
				t.Errorf("%s has a second package comment in %s", name, file)
			}
			comment = f.Doc.Text()
		}
		if n := len(sentence.FindAllString(comment, -1)); n < 2 || n > 12 {
			t.Errorf("the comment of %s has %d sentences; a few are needed: its job, what it must not know, where data comes from and goes", name, n)
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
	checked := 0
	for name, row := range architecture(t) {
		p, ok := byName[name]
		if !row.pure || !ok {
			continue
		}
		checked++
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
	if checked < 6 {
		t.Errorf("docs/architecture.md calls %d packages pure; there are six at least", checked)
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
