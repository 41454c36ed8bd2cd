package hcl

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/pmezard/go-difflib/difflib"

	"github.com/berthdev/berth/cluster/object"
)

// FormatOptions says what Format does with what it finds.
type FormatOptions struct {
	Recursive bool      // directories below, too; hidden ones are skipped
	Write     bool      // write changed files back
	Stdin     io.Reader // read for the target "-"
}

// Formatted is one file that is not, or was not, in canonical form.
type Formatted struct {
	File   string // as given, or joined to the directory; "<stdin>" for "-"
	Before []byte
	After  []byte
}

// Changed reports whether formatting makes a difference.
func (f Formatted) Changed() bool { return !bytes.Equal(f.Before, f.After) }

// Diff is the difference as a unified diff, as terraform fmt -diff prints it.
func (f Formatted) Diff() string {
	s, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(string(f.Before)), B: difflib.SplitLines(string(f.After)),
		FromFile: "old/" + f.File, ToFile: "new/" + f.File, Context: 3,
	})
	if err != nil { // only a failing writer makes one, and strings.Builder does not fail
		return err.Error()
	}
	return s
}

// Format puts *.hcl and *.hclvars files into canonical form. target is a
// directory, a file, or "-" for o.Stdin. The result lists files that change,
// ordered by path, and always the one file of "-". A file that does not parse is
// left alone and reported.
func Format(target string, o FormatOptions) ([]Formatted, object.Diagnostics) {
	if target == "-" {
		if o.Stdin == nil {
			return nil, object.Diagnostics{fault("Nothing to format", "The target \"-\" reads standard input, and there is none.")}
		}
		src, err := io.ReadAll(o.Stdin)
		if err != nil {
			return nil, object.Diagnostics{fault("Cannot read standard input", "%v.", err)}
		}
		after, diags := FormatSource("<stdin>", src)
		if diags.HasErrors() {
			return nil, diags
		}
		return []Formatted{{File: "<stdin>", Before: src, After: after}}, nil
	}
	files, diags := formattable(target, o.Recursive)
	type result struct {
		f     Formatted
		diags object.Diagnostics
	}
	results := make([]result, len(files))
	parallel(len(files), func(i int) { results[i].f, results[i].diags = formatFile(files[i], o.Write) })
	var out []Formatted
	for _, r := range results {
		diags = append(diags, r.diags...)
		if !r.diags.HasErrors() && r.f.Changed() {
			out = append(out, r.f)
		}
	}
	return out, diags
}

// formatFile formats one file, and writes it back if told so and it changes.
func formatFile(file string, write bool) (Formatted, object.Diagnostics) {
	f := Formatted{File: file}
	var err error
	if f.Before, err = os.ReadFile(file); err != nil {
		return f, object.Diagnostics{fault("Cannot read a file", "%v.", err)}
	}
	var diags object.Diagnostics
	if f.After, diags = FormatSource(file, f.Before); diags.HasErrors() || !write || !f.Changed() {
		return f, diags
	}
	if err := rewrite(file, f.After); err != nil {
		diags = append(diags, fault("Cannot write a file", "%v.", err))
	}
	return f, diags
}

// FormatSource is the canonical form of a file's text.
func FormatSource(name string, src []byte) ([]byte, object.Diagnostics) {
	if _, d := hclsyntax.ParseConfig(src, name, hcl.InitialPos); d.HasErrors() {
		return nil, fromHCL(d, map[string][]byte{name: src})
	}
	return hclwrite.Format(src), nil
}

func formattable(target string, recursive bool) ([]string, object.Diagnostics) {
	info, err := os.Stat(target)
	if err != nil {
		return nil, object.Diagnostics{fault("Nothing to format", "%v.", err)}
	}
	if !info.IsDir() {
		if !canFormat(target) {
			return nil, object.Diagnostics{fault("Cannot format this file", "%s is neither *.hcl nor *.hclvars.", target)}
		}
		return []string{target}, nil
	}
	var files []string
	err = filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != target && (!recursive || strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if canFormat(path) && d.Type().IsRegular() {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, object.Diagnostics{fault("Cannot list the files", "%v.", err)}
	}
	slices.Sort(files)
	return files, nil
}

func canFormat(path string) bool {
	base := filepath.Base(path)
	return !ignored(base) && (strings.HasSuffix(base, ".hcl") || strings.HasSuffix(base, ".hclvars"))
}

// rewrite replaces a file whole, so that a full disk cannot leave half of it.
func rewrite(file string, b []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".berth-fmt-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(b); err != nil {
		tmp.Close()
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := os.Chmod(tmp.Name(), info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// ignored reports files that editors leave behind.
func ignored(base string) bool {
	return strings.HasPrefix(base, ".") || strings.HasSuffix(base, "~") || (strings.HasPrefix(base, "#") && strings.HasSuffix(base, "#"))
}
