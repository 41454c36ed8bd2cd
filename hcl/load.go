package hcl

import (
	"crypto/sha256"
	"encoding/hex"
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
	ctyjson "github.com/zclconf/go-cty/cty/json"

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
	diags     hcl.Diagnostics

	settings  *block // berth
	variables map[string]*variable
	locals    map[string]*node
	outputs   map[string]*output
	byKind    map[object.Kind]map[string]*declaration
	order     []*declaration
}

// Load reads and evaluates the configuration of a directory. It returns every
// mistake that it finds, ordered by place; the configuration is nil if there is
// an error among them. It reads files and the given options, nothing else: equal
// files, options and time give an equal configuration.
func Load(dir string, o Options) (*Configuration, object.Diagnostics) {
	r := newRun(dir, o)
	c := r.load()
	diags := fromHCL(r.diags, r.files)
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
		byKind: map[object.Kind]map[string]*declaration{},
	}
}

func (r *run) load() *Configuration {
	bodies := r.read()
	if bodies == nil {
		return nil
	}
	abs, err := filepath.Abs(r.dir)
	if err != nil {
		r.general("Cannot find the directory", "%v.", err)
		return nil
	}
	r.paths = cty.ObjectVal(map[string]cty.Value{
		"module": cty.StringVal("."), "root": cty.StringVal("."), "cwd": cty.StringVal(workingDirectory(r.dir)),
	})
	r.root = &hcl.EvalContext{Functions: functionsFor(abs, r.opts.Now)}
	r.stack, r.namespace = filepath.Base(abs), object.DefaultNamespace
	for i := range bodies {
		r.collect(&bodies[i])
	}
	r.berth()
	r.assign()
	for _, name := range keys(r.variables) {
		r.validate(r.variables[name])
	}
	r.connect()
	r.evaluateAll()
	return r.result(abs)
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
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			r.general("Not a configuration", "There is no directory %s. Name the directory with -C DIR.", r.dir)
		} else {
			r.general("Not a configuration", "%v.", err)
		}
		return nil
	}
	var sources []*source
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || ignored(name) || !(strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".hcl.json")) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			r.general("Cannot read a file", "%v.", err)
			continue
		}
		sources = append(sources, &source{name: filepath.ToSlash(shownPath(r.dir, name)), src: b})
	}
	if len(sources) == 0 {
		if len(r.diags) == 0 {
			r.general("Not a configuration", "There is no *.hcl or *.hcl.json file in %s. Name the directory with -C DIR.", r.dir)
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

// later are Terraform's blocks that this version refuses.
var later = []string{"module", "data", "check", "import", "moved", "removed"}

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
		case isKind && info.Declared:
			r.readObject(k, info)
		case slices.Contains(later, k.kind):
			r.wrong(b.src, k.head, "Not supported", "%s blocks are not supported in this version of berth.", capital(k.kind))
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
	out := []string{"berth", "variable", "locals", "output"}
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
		n := &node{address: "local." + a.name, src: src, at: a.nameAt, body: &body{src: src, attrs: []attribute{*a}}}
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
	d := &declaration{info: info, name: name, blk: k, each: k.body.attr("for_each"), count: k.body.attr("count")}
	d.node = node{address: what + "." + name, src: k.body.src, at: k.head, body: &k.body, decl: d}
	d.eval = func(*node) { r.evaluate(d) }
	r.byKind[info.Kind][name] = d
	r.order = append(r.order, d)
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
	if !labelForm.MatchString(r.stack) {
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
	parallel(len(r.order), func(i int) {
		d := r.order[i]
		if m := mentionsOf(d.body, nil, nil); len(m) > 0 {
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
	var free []*declaration
	for _, d := range r.order {
		if d.scope.empty() && len(d.edges) == 0 && !d.repeated() {
			free = append(free, d)
		}
	}
	parallel(len(free), func(i int) {
		r.evaluate(free[i])
		free[i].state = visited
	})
	var nodes []*node
	for _, name := range keys(r.locals) {
		nodes = append(nodes, r.locals[name])
	}
	for _, d := range r.order {
		nodes = append(nodes, &d.node)
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

// result puts together what was found.
func (r *run) result(abs string) *Configuration {
	c := &Configuration{Stack: r.stack, Namespace: r.namespace, Outputs: map[string]object.Output{}, SensitiveOutputs: map[string]object.Sensitive{}, Files: r.files}
	count := 0
	for _, d := range r.order {
		count += len(d.instances)
	}
	owners := make(map[object.Ref]*declaration, count)
	for _, d := range r.order {
		for _, in := range d.instances {
			ref := in.object.Ref()
			if other := owners[ref]; other != nil {
				r.wrong(d.src, d.at, "Duplicate name", "%s and %s (%s:%d) are both the object %s. Names must differ; rename one.", in.address, other.address, other.src.name, other.src.lineOf(other.at.start), ref)
				continue
			}
			owners[ref] = d
		}
	}
	if r.diags.HasErrors() {
		return nil
	}
	refs := make(map[*declaration][]object.Ref, len(r.order))
	c.Objects = make([]Declared, 0, count)
	for _, d := range r.order {
		refs[d] = make([]object.Ref, 0, len(d.instances))
		for _, in := range d.instances {
			refs[d] = append(refs[d], in.object.Ref())
		}
	}
	for _, d := range r.order {
		references, after := refsOf(d.objects, refs), refsOf(d.after, refs)
		at := rangeOf(d.src.rng(d.at))
		for _, in := range d.instances {
			all := merged(references, implied(in.object, owners))
			in.object.Head().After = merged(all, after)
			c.Objects = append(c.Objects, Declared{Address: in.address, Object: in.object, References: all, DependsOn: after, IgnoreChanges: in.ignore, Range: at})
		}
	}
	order := map[object.Kind]int{}
	for i, k := range object.Kinds() {
		order[k.Kind] = i
	}
	slices.SortStableFunc(c.Objects, func(a, b Declared) int {
		ra, rb := a.Object.Ref(), b.Object.Ref()
		if x := order[ra.Kind] - order[rb.Kind]; x != 0 {
			return x
		}
		return ra.Compare(rb)
	})
	for _, name := range keys(r.outputs) {
		r.show(c, name, r.outputs[name])
	}
	c.Source = object.Source{Directory: filepath.ToSlash(abs), Digest: r.digest()}
	return c
}

// refsOf lists the objects of declarations, sorted, each once.
func refsOf(ds []*declaration, refs map[*declaration][]object.Ref) []object.Ref {
	var out []object.Ref
	for _, d := range ds {
		out = append(out, refs[d]...)
	}
	slices.SortFunc(out, object.Ref.Compare)
	return slices.Compact(out)
}

// implied lists what an object needs without referring to it: its namespace, and
// the config maps and secrets that its pods read by name.
func implied(o object.Object, owners map[object.Ref]*declaration) []object.Ref {
	var out []object.Ref
	m := o.Head()
	if ns := (object.Ref{Kind: object.KindNamespace, Name: m.Namespace}); m.Namespace != "" && owners[ns] != nil {
		out = append(out, ns)
	}
	if t := object.TemplateOf(o); t != nil {
		for _, ref := range t.ReadRefs(m.Namespace) {
			if owners[ref] != nil {
				out = append(out, ref)
			}
		}
	}
	return out
}

func merged(a, b []object.Ref) []object.Ref {
	if len(b) == 0 {
		return a
	}
	out := append(slices.Clone(a), b...)
	slices.SortFunc(out, object.Ref.Compare)
	return slices.Compact(out)
}

// digest names the files and the values of the variables that are not sensitive.
func (r *run) digest() string {
	h := sha256.New()
	for _, name := range keys(r.files) {
		sum := sha256.Sum256(r.files[name])
		fmt.Fprintf(h, "%s %x\n", filepath.Base(name), sum)
	}
	for _, name := range keys(r.variables) {
		v := r.variables[name]
		if v.sensitive {
			continue
		}
		if val, marks := v.value.UnmarkDeep(); len(marks) == 0 {
			if text, err := ctyjson.Marshal(val, val.Type()); err == nil {
				fmt.Fprintf(h, "%s=%s\n", name, text)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
