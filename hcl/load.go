package hcl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/berthdev/berth/cluster/object"
)

// run is one evaluation of a directory.
type run struct {
	dir       string
	opts      Options
	stack     string
	namespace string
	files     map[string][]byte
	root      *hcl.EvalContext // functions
	paths     cty.Value
	made      map[string]cty.Value
	making    sync.Mutex // made, while blocks are evaluated in parallel
	diags     hcl.Diagnostics

	lib    *library
	home   *directory
	parent *run   // nil: the configuration itself; the others are instances of modules
	from   *call  // the module block that it is an instance of
	prefix string // of addresses: module.a["eu"].
	key    string // of for_each
	given  map[string]given
	unset  map[string]bool // of a console, which is content with variables without a value; others have nil
	base   []*declaration  // that decided whether this instance exists
	after  []*node         // depends_on of the module blocks around

	settings  *block // berth
	variables map[string]*variable
	locals    map[string]*node
	outputs   map[string]*output
	calls     map[string]*call
	byKind    map[object.Kind]map[string]*declaration
	order     []*declaration

	checks       map[string]*block
	conditions   []*condition
	pending      []pending // conditions that wait for the forecast
	data         map[object.Kind]map[string]*datum
	readings     []*datum
	refactorings []*refactoring
	moves        []Move
	removals     []Removal
	imports      []Import
}

// Load reads and evaluates the configuration of a directory. It returns every
// mistake that it finds, ordered by place; the configuration is nil if there is
// an error among them. It reads files and the given options, nothing else: equal
// files, options and time give an equal configuration.
func Load(dir string, o Options) (*Configuration, object.Diagnostics) {
	r := newRun(dir, o)
	c := r.load()
	diags := fromHCL(distinct(r.diags), r.files)
	diags.Sort()
	if diags.HasErrors() {
		return nil, diags
	}
	return c, diags
}

func newRun(dir string, o Options) *run {
	return &run{
		dir: dir, opts: o, files: map[string][]byte{}, made: map[string]cty.Value{},
		variables: map[string]*variable{}, locals: map[string]*node{}, outputs: map[string]*output{},
		byKind: map[object.Kind]map[string]*declaration{}, calls: map[string]*call{}, given: map[string]given{},
		checks: map[string]*block{}, data: map[object.Kind]map[string]*datum{},
	}
}

func (r *run) load() *Configuration {
	bodies := r.read()
	if bodies == nil {
		return nil
	}
	abs, ok := r.library(bodies)
	if !ok {
		return nil
	}
	unread := r.diags.HasErrors() // what a module declares is not known, so references cannot be judged
	r.paths = r.pathsFor(r.home)
	r.root = &hcl.EvalContext{Functions: functionsFor(abs, r.opts.Now)}
	r.stack, r.namespace = filepath.Base(abs), object.DefaultNamespace
	for i := range bodies {
		r.collect(&bodies[i])
	}
	r.berth()
	if unread {
		return nil
	}
	r.assign()
	for _, name := range keys(r.variables) {
		r.validate(r.variables[name])
	}
	r.connect()
	r.evaluateAll()
	if r.unset != nil {
		return nil // a console asks for single values; they need not make a whole
	}
	r.judgeConditions()
	r.refactor()
	return r.result(abs)
}

// library reads the modules of the configuration; abs is its directory.
func (r *run) library(bodies []body) (abs string, ok bool) {
	abs, err := filepath.Abs(r.dir)
	if err != nil {
		r.general("Cannot find the directory", "%v.", err)
		return "", false
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		r.general("Cannot find the directory", "%v.", err)
		return "", false
	}
	r.home = &directory{path: real, rel: ".", shown: filepath.Clean(r.dir), bodies: bodies, sources: map[*block]*directory{}}
	r.lib = &library{root: real, shown: r.home.shown, dirs: map[string]*directory{}, files: r.files, labels: map[string]string{}, fetched: r.opts.Modules, overlay: r.opts.Overlay}
	r.add(r.lib.read(r.home))
	return abs, true
}

// pathsFor are path.module, path.root and path.cwd. Functions that read files
// read them from the configuration's directory, so those of a module are
// file("${path.module}/app.toml"), as in Terraform.
func (r *run) pathsFor(d *directory) cty.Value {
	return cty.ObjectVal(map[string]cty.Value{
		"module": cty.StringVal(d.rel), "root": cty.StringVal("."), "cwd": cty.StringVal(workingDirectory(r.dir)),
	})
}

// distinct leaves out what has been said: each instance of a module finds the
// mistakes in its directory.
func distinct(diags hcl.Diagnostics) hcl.Diagnostics {
	type said struct {
		summary, detail, file string
		at                    int
	}
	seen := make(map[said]bool, len(diags))
	return slices.DeleteFunc(diags, func(d *hcl.Diagnostic) bool {
		if d.Subject == nil {
			return false
		}
		k := said{d.Summary, d.Detail, d.Subject.Filename, d.Subject.Start.Byte}
		if seen[k] {
			return true
		}
		seen[k] = true
		return false
	})
}

// workingDirectory is where the process stands; path.cwd.
func workingDirectory(fallback string) string {
	wd, err := os.Getwd()
	if err != nil {
		return filepath.ToSlash(fallback)
	}
	return filepath.ToSlash(wd)
}

// read parses every file of the directory, on as many goroutines as there are
// processors.
func (r *run) read() []body {
	if _, err := os.Stat(r.dir); errors.Is(err, fs.ErrNotExist) {
		r.general("Not a configuration", "There is no directory %s. Name the directory with -C DIR.", r.dir)
		return nil
	}
	sources, wrongs := sourcesOf(r.dir, r.dir, r.opts.Overlay)
	r.add(wrongs)
	if len(sources) == 0 {
		if len(r.diags) == 0 {
			r.general("Not a configuration", "There is no *.hcl or *.hcl.json file in %q. Name its directory with -C DIR.", r.dir)
		}
		return nil
	}
	bodies, diags := make([]body, len(sources)), make([]hcl.Diagnostics, len(sources))
	parallel(len(sources), func(i int) {
		bodies[i], diags[i] = parse(sources[i], strings.HasSuffix(sources[i].name, ".json"))
	})
	for i, s := range sources {
		r.files[s.name] = s.src
		r.diags = append(r.diags, diags[i]...)
	}
	if r.diags.HasErrors() { // what a broken file declares is not known, so nothing else can be judged
		return nil
	}
	return bodies
}

// sourcesOf are the configuration files of a directory; shown is the directory
// as messages name it.
func sourcesOf(dir, shown string, unsaved overlay) ([]*source, hcl.Diagnostics) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, hcl.Diagnostics{&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Not a configuration", Detail: err.Error() + "."}}
	}
	var sources []*source
	var diags hcl.Diagnostics
	for _, name := range unsaved.names(dir, entries) {
		if ignored(name) || strings.HasSuffix(name, TestSuffix) || strings.HasSuffix(name, PolicySuffix) || !(strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".hcl.json")) {
			continue
		}
		b, err := unsaved.read(filepath.Join(dir, name))
		if err != nil {
			diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Cannot read a file", Detail: err.Error() + "."})
			continue
		}
		sources = append(sources, &source{name: filepath.ToSlash(shownPath(shown, name)), src: b})
	}
	return sources, diags
}

// shownPath is how a file of the directory is printed.
func shownPath(dir, name string) string {
	if dir == "" || dir == "." {
		return name
	}
	return filepath.Join(dir, name)
}

// parallel calls f for 0 to n-1 on as many goroutines as there are processors.
func parallel(n int, f func(int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	const chunk = 16
	var next atomic.Int64
	var wg sync.WaitGroup
	size := 1
	if n > 8*chunk {
		size = chunk
	}
	for range workers {
		wg.Go(func() {
			for {
				to := int(next.Add(int64(size)))
				if to-size >= n {
					return
				}
				for i := to - size; i < min(to, n); i++ {
					f(i)
				}
			}
		})
	}
	wg.Wait()
}

// each is parallel, but for modules, whose instances are evaluated in parallel already.
func (r *run) each(n int, f func(int)) {
	if r.parent == nil {
		parallel(n, f)
		return
	}
	for i := range n {
		f(i)
	}
}

func (r *run) add(d hcl.Diagnostics) { r.diags = append(r.diags, d...) }

func (r *run) wrong(src *source, at span, summary, detail string, args ...any) {
	r.diags = append(r.diags, wrong(src.rng(at), summary, detail, args...))
}

func (r *run) general(summary, detail string, args ...any) {
	r.diags = append(r.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...)})
}

// named checks that a block has exactly one name.
func (r *run) named(k *block, what string) bool {
	if len(k.labels) == 1 {
		return true
	}
	r.wrong(k.body.src, k.head, "Wrong number of names", "A %s block has exactly one name: %s \"NAME\" { … }.", what, what)
	return false
}

func (r *run) duplicate(k, before *block, what string) {
	s := before.body.src
	r.wrong(k.body.src, k.head, "Duplicate name", "There is %s already, at %s:%d. Names must differ; rename or remove one.", what, s.name, s.lineOf(before.head.start))
}

// foreign are Terraform's blocks that have no meaning here.
var foreign = map[string]string{
	"resource":  "Write the kind itself as the block: deployment \"web\" { … }.",
	"provider":  "Berth needs no providers; its kinds are built in.",
	"terraform": "Settings stand in a berth block.",
}

// collect sorts the blocks of one file.
func (r *run) collect(b *body) {
	for i := range b.attrs {
		a := &b.attrs[i]
		r.wrong(b.src, a.nameAt, "Attribute outside a block", "%q stands alone. Values for use in many places belong into a locals block, values of variables into *.hclvars.", a.name)
	}
	for i := range b.blocks {
		k := &b.blocks[i]
		info, isKind := object.Info(object.Kind(k.kind))
		switch {
		case k.kind == "berth":
			if len(k.labels) > 0 {
				r.wrong(b.src, k.head, "Superfluous name", "A berth block has no name.")
			} else if r.settings != nil {
				r.duplicate(k, r.settings, "a berth block")
			} else {
				r.settings = k
			}
		case k.kind == "variable":
			r.readVariable(k)
		case k.kind == "locals":
			r.readLocals(k)
		case k.kind == "output":
			r.readOutput(k)
		case k.kind == "module":
			r.readModule(k)
		case isKind && info.Declared:
			r.readObject(k, info)
		case k.kind == "data":
			r.readData(k)
		case k.kind == "check":
			r.readCheck(k)
		case k.kind == "moved" || k.kind == "removed" || k.kind == "import":
			r.readRefactoring(k)
		case foreign[k.kind] != "":
			r.wrong(b.src, k.head, "Unknown block", "There is no block %q. %s", k.kind, foreign[k.kind])
		case isKind:
			r.wrong(b.src, k.head, "Kind that is not declared", "A %s is made by berth itself and is not written in configurations.", k.kind)
		default:
			r.wrong(b.src, k.head, "Unknown block", "There is no block %q, and no kind of that name.%s", k.kind, hint(k.kind, blockNames(), "There are: "+strings.Join(blockNames(), ", ")+"."))
		}
	}
}

func blockNames() []string {
	out := []string{"berth", "variable", "locals", "output", "module", "data", "check", "moved", "removed", "import"}
	for _, k := range object.Kinds() {
		if k.Declared {
			out = append(out, string(k.Kind))
		}
	}
	return out
}

func (r *run) readLocals(k *block) {
	src := k.body.src
	if len(k.labels) > 0 {
		r.wrong(src, k.head, "Superfluous name", "A locals block has no name.")
	}
	for i := range k.body.blocks {
		r.wrong(src, k.body.blocks[i].head, "Unknown block", "A locals block has lines NAME = VALUE only.")
	}
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		if before := r.locals[a.name]; before != nil {
			r.wrong(src, a.nameAt, "Duplicate name", "There is local.%s already, at %s:%d. Names must differ; rename or remove one.", a.name, before.src.name, before.src.lineOf(before.at.start))
			continue
		}
		n := &node{address: r.prefix + "local." + a.name, src: src, at: a.nameAt, body: &body{src: src, attrs: []attribute{*a}}}
		n.eval = func(n *node) {
			if n.failed {
				n.diags = append(n.diags, unknownFunctions(a.expr, r.root)...)
				return
			}
			v, diags := a.value(r.context(&n.scope))
			n.diags = append(n.diags, diags...)
			n.value, n.failed = v, diags.HasErrors()
		}
		r.locals[a.name] = n
	}
}

func (r *run) readObject(k *block, info object.KindInfo) {
	what := string(info.Kind)
	if !r.named(k, what) {
		return
	}
	name := k.labels[0]
	if r.byKind[info.Kind] == nil {
		r.byKind[info.Kind] = map[string]*declaration{}
	}
	if before := r.byKind[info.Kind][name]; before != nil {
		r.duplicate(k, before.blk, what+" \""+name+"\"")
		return
	}
	d := &declaration{run: r, info: info, name: name, blk: k, each: k.body.attr("for_each"), count: k.body.attr("count")}
	d.node = node{address: r.prefix + what + "." + name, src: k.body.src, at: k.head, body: &k.body, decl: d}
	d.eval = func(*node) { r.evaluate(d) }
	r.byKind[info.Kind][name] = d
	r.order = append(r.order, d)
	r.readLifecycle(k, "resource", condition{decl: d}, d.address)
}

var labelForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// berth reads the settings, which may refer to nothing.
func (r *run) berth() {
	if k := r.settings; k != nil {
		src := k.body.src
		known := []string{"required_version", "stack", "namespace"}
		for i := range k.body.attrs {
			a := &k.body.attrs[i]
			if !slices.Contains(known, a.name) {
				r.wrong(src, a.nameAt, "Unknown attribute", "A berth block has no attribute %q.%s", a.name, hint(a.name, known, "There are: "+strings.Join(known, ", ")+"."))
				continue
			}
			if r.parent != nil && a.name != "required_version" {
				r.wrong(src, a.nameAt, "Setting of the stack in a module", "The objects of a module belong to the stack that uses it, so a module cannot set %s. Take the line out; a namespace can be an input: variable \"namespace\" { … }.", a.name)
				continue
			}
			text := constant(r, src, a, cty.String, cty.Value.AsString)
			switch {
			case a.name == "required_version":
				r.requireVersion(src, a, text)
			case !labelForm.MatchString(text):
				r.wrong(src, a.exprAt, "Wrong name", "The %s %q is not a name: use lower-case letters, digits and hyphens, 63 at most.", a.name, text)
			case a.name == "stack":
				r.stack = text
			default:
				r.namespace = text
			}
		}
		for i := range k.body.blocks {
			r.wrong(src, k.body.blocks[i].head, "Unknown block", "A berth block has no block %q.", k.body.blocks[i].kind)
		}
		if k.body.attr("stack") != nil {
			return
		}
	}
	if r.parent == nil && !labelForm.MatchString(r.stack) {
		r.general("No name for the stack", "The stack is named after its directory, and %q is not a name of lower-case letters, digits and hyphens. Name it: berth { stack = \"NAME\" }.", r.stack)
	}
}

func (r *run) requireVersion(src *source, a *attribute, text string) {
	want, err := version.NewConstraint(text)
	if err != nil {
		r.wrong(src, a.exprAt, "Wrong version constraint", "%q is not a constraint such as \">= 0.1, < 2\".", text)
		return
	}
	have, err := version.NewVersion(r.opts.Version)
	if err == nil && !want.Check(have.Core()) {
		r.wrong(src, a.exprAt, "Wrong version of berth", "This configuration asks for berth %s, and this is berth %s.", text, r.opts.Version)
	}
}

// connect resolves every reference.
func (r *run) connect() {
	for _, name := range keys(r.locals) {
		n := r.locals[name]
		r.link(n, mentionsOf(n.body, nil, nil), rules{})
	}
	for _, name := range keys(r.calls) {
		r.connectCall(r.calls[name])
	}
	for _, d := range r.readings {
		r.link(&d.node, mentionsOf(d.body, nil, nil), rules{each: d.each != nil, count: d.count != nil})
		r.dependsOn(&d.node, d.body)
	}
	r.each(len(r.order), func(i int) {
		d := r.order[i]
		if m := r.mentions(d.body); len(m) > 0 {
			r.link(&d.node, m, rules{each: d.each != nil, count: d.count != nil})
		}
		d.after = r.dependsOn(&d.node, d.body)
	})
	for _, name := range keys(r.outputs) {
		o := r.outputs[name]
		r.link(&o.node, mentionsOf(o.body, nil, nil), rules{})
		r.dependsOn(&o.node, o.body)
	}
}

// evaluateAll evaluates what refers to nothing in parallel, and the rest in the
// order of its references.
func (r *run) evaluateAll() {
	var free, modules []*node
	for _, d := range r.order {
		if len(d.edges) == 0 && !d.repeated() {
			free = append(free, &d.node)
		}
	}
	for _, name := range keys(r.calls) {
		if c := r.calls[name]; len(c.edges) == 0 {
			free = append(free, &c.node)
		} else {
			modules = append(modules, &c.node)
		}
	}
	r.each(len(free), func(i int) { r.visit(free[i], nil) })
	nodes := append(slices.Clone(free), modules...)
	for _, name := range keys(r.locals) {
		nodes = append(nodes, r.locals[name])
	}
	for _, d := range r.readings {
		nodes = append(nodes, &d.node)
	}
	for _, d := range r.order {
		if len(d.edges) > 0 || d.repeated() {
			nodes = append(nodes, &d.node)
		}
	}
	for _, name := range keys(r.outputs) {
		nodes = append(nodes, &r.outputs[name].node)
	}
	for _, n := range nodes {
		r.visit(n, nil)
	}
	for _, n := range nodes {
		r.diags = append(r.diags, n.diags...)
	}
}
