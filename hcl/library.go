package hcl

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// library holds the source directories of modules, each read once however many
// modules are made of it. It is filled before anything is evaluated and only
// read afterwards.
type library struct {
	root     string // where the configuration is
	shown    string // the same as people gave it
	dirs     map[string]*directory
	files    map[string][]byte
	labels   map[string]string // files by the names that ranges use -> their names beside the configuration
	reader   reader
	fetched  func(string) (Fetched, error)
	overlay  overlay
	mentions sync.Map // *body -> []mention, since every instance asks for them
}

// directory is one source of modules.
type directory struct {
	path      string // absolute, without symbolic links
	root      string // of what was fetched with it; empty: it stands beside the configuration
	rel       string // from the configuration: path.module
	shown     string
	bodies    []body
	variables map[string]*block
	outputs   map[string]*block
	sources   map[*block]*directory // of its module blocks
}

// read fills the library with all that the configuration's modules are made of.
func (l *library) read(top *directory) hcl.Diagnostics {
	var diags hcl.Diagnostics
	l.dirs[top.path] = top
	for level := []*directory{top}; len(level) > 0; {
		var next []*directory
		for _, d := range level {
			for _, k := range d.modules() {
				found, fresh, problem := l.source(d, k)
				if problem != nil {
					diags = append(diags, problem)
					continue
				}
				if d.sources[k] = found; fresh {
					next = append(next, found)
				}
			}
		}
		wrongs := make([]hcl.Diagnostics, len(next))
		texts := make([][]*source, len(next))
		parallel(len(next), func(i int) { texts[i], wrongs[i] = next[i].parse(l.overlay) })
		for i := range next {
			diags = append(diags, wrongs[i]...)
			for _, s := range texts[i] {
				l.files[s.name] = s.src
				l.labels[s.name] = next[i].rel + "/" + filepath.Base(s.name)
			}
		}
		level = next
	}
	if !diags.HasErrors() {
		diags = append(diags, l.circle(top, nil, map[*directory]bool{})...)
	}
	return diags
}

func (d *directory) modules() []*block {
	var out []*block
	for i := range d.bodies {
		for j := range d.bodies[i].blocks {
			if k := &d.bodies[i].blocks[j]; k.kind == "module" {
				out = append(out, k)
			}
		}
	}
	return out
}

// source finds the directory of a module block.
func (l *library) source(from *directory, k *block) (*directory, bool, *hcl.Diagnostic) {
	src := k.body.src
	a := k.body.attr("source")
	if a == nil {
		return nil, false, wrong(src.rng(k.head), "Missing attribute", "A module block names its directory: source = \"./DIR\".")
	}
	v, diags := a.value(nil)
	if diags.HasErrors() || v.Type() != cty.String || v.IsNull() || !v.IsKnown() || v.IsMarked() {
		return nil, false, wrong(src.rng(a.exprAt), "Wrong source", "The source of a module is a text without references, such as \"./web\": modules are read before anything is evaluated.")
	}
	text := v.AsString()
	path, root, problem := l.place(from, src, a, text)
	if problem != nil {
		return nil, false, problem
	}
	if d := l.dirs[path]; d != nil {
		return d, false, nil
	}
	rel, err := filepath.Rel(l.root, path)
	if err != nil {
		return nil, false, wrong(src.rng(a.exprAt), "No such module", "%v.", err)
	}
	d := &directory{path: path, root: root, rel: filepath.ToSlash(rel), shown: filepath.Join(l.shown, rel)}
	l.dirs[path] = d
	return d, true, nil
}

// parse reads a directory's files.
func (d *directory) parse(unsaved overlay) ([]*source, hcl.Diagnostics) {
	sources, diags := sourcesOf(d.path, d.shown, unsaved)
	d.sources = map[*block]*directory{}
	for _, s := range sources {
		b, wrongs := parse(s, strings.HasSuffix(s.name, ".json"))
		diags = append(diags, wrongs...)
		d.bodies = append(d.bodies, b)
	}
	d.list()
	return sources, diags
}

// list finds what a module is asked for and what it answers.
func (d *directory) list() {
	d.variables, d.outputs = map[string]*block{}, map[string]*block{}
	for i := range d.bodies {
		for j := range d.bodies[i].blocks {
			k := &d.bodies[i].blocks[j]
			switch {
			case len(k.labels) != 1:
			case k.kind == "variable":
				d.variables[k.labels[0]] = k
			case k.kind == "output":
				d.outputs[k.labels[0]] = k
			}
		}
	}
}

// circle finds directories that are made of themselves and says the whole way.
func (l *library) circle(d *directory, trail []*block, done map[*directory]bool) hcl.Diagnostics {
	var diags hcl.Diagnostics
	done[d] = false // on the way
	for _, k := range d.modules() {
		to := d.sources[k]
		way := append(slices.Clip(trail), k)
		finished, seen := done[to]
		if !seen {
			diags = append(diags, l.circle(to, way, done)...)
			continue
		}
		if finished {
			continue
		}
		var lines []string
		for _, b := range way {
			lines = append(lines, "  "+calledAt(b))
		}
		diags = append(diags, wrong(k.body.src.rng(k.head), "Cycle of modules", "The directory %s is made of itself, so it would never end:\n%s\nTake one of these module blocks out.",
			filepath.ToSlash(to.shown), strings.Join(lines, "\n")))
	}
	done[d] = true
	return diags
}

// calledAt is a module block with its place.
func calledAt(k *block) string {
	s := k.body.src
	return fmt.Sprintf("module.%s at %s:%d", strings.Join(k.labels, "."), s.name, s.lineOf(k.head.start))
}

// mentions lists the references in a block; those of modules are found once for
// all instances.
func (r *run) mentions(b *body) []mention {
	if r.parent == nil {
		return mentionsOf(b, nil, nil)
	}
	if m, ok := r.lib.mentions.Load(b); ok {
		return m.([]mention)
	}
	m := mentionsOf(b, nil, nil)
	r.lib.mentions.Store(b, m)
	return m
}
