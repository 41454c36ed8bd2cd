package hcl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/berthdev/berth/cluster/object"
)

// Fetched is where a module from elsewhere is on this machine.
type Fetched struct {
	Root string // what was fetched as a whole; relative sources inside do not leave it
	Dir  string // the module's directory, Root or below
}

// beside reports whether a source is a directory seen from the file that names it.
func beside(source string) bool {
	return source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}

// place finds where a source is: beside the directory that names it, or where
// Options.Modules says that it is. root is the whole that was fetched, or empty.
func (l *library) place(from *directory, src *source, a *attribute, text string) (path, root string, problem *hcl.Diagnostic) {
	at, shown := src.rng(a.exprAt), filepath.ToSlash(filepath.Join(from.shown, text))
	dir := filepath.Join(from.path, filepath.FromSlash(text))
	root = from.root
	if !beside(text) {
		if l.fetched == nil {
			return "", "", wrong(at, "Wrong source", "%q is not a directory beside this one: such a source begins with ./ or ../.", text)
		}
		f, err := l.fetched(text)
		if err != nil {
			return "", "", unfetched(at, err)
		}
		if root, err = filepath.Abs(f.Root); err == nil {
			root, err = filepath.EvalSymlinks(root)
		}
		if err == nil {
			dir, err = filepath.Abs(f.Dir)
		}
		if err != nil {
			return "", "", wrong(at, "No such module", "%v.", err)
		}
		shown = text
	}
	path, err := filepath.EvalSymlinks(dir)
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(path); err == nil && !info.IsDir() {
			return "", "", wrong(at, "Wrong source", "%s is a file. The source of a module is a directory.", text)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !beside(text):
		return "", "", wrong(at, "No such module", "What %s names has been fetched, but the directory behind // is not in it.", text)
	case errors.Is(err, fs.ErrNotExist):
		return "", "", wrong(at, "No such module", "There is no directory %s. A source is seen from the directory of the file that names it.", shown)
	case err != nil:
		return "", "", wrong(at, "No such module", "%v.", err)
	case root != "" && !inside(root, path):
		return "", "", wrong(at, "Source outside the module", "%s leads out of what was fetched with this module, where nothing is pinned. Name it by its own git:: source.", text)
	}
	return path, root, nil
}

func inside(root, path string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// unfetched is why a module from elsewhere is not here.
func unfetched(at hcl.Range, err error) *hcl.Diagnostic {
	detail := capital(err.Error())
	if !strings.HasSuffix(detail, ".") {
		detail += "."
	}
	var told *object.Error
	if errors.As(err, &told) && told.Hint != "" {
		detail += " " + told.Hint
	}
	return wrong(at, "Module not available", "%s", detail)
}

// Modules reads the configuration of a directory and the modules that it is made
// of, so that Options.Modules is asked for each, and evaluates nothing.
func Modules(dir string, o Options) object.Diagnostics {
	r := newRun(dir, o)
	if bodies := r.read(); bodies != nil {
		r.library(bodies)
	}
	diags := fromHCL(distinct(r.diags), r.files)
	diags.Sort()
	return diags
}
