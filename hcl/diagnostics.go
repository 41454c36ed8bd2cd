package hcl

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/berthdev/berth/cluster/object"
)

// fault is an error about no place in a file.
func fault(summary, detail string, args ...any) object.Diagnostic {
	return object.Diagnostic{Severity: object.SeverityError, Summary: summary, Detail: fmt.Sprintf(detail, args...)}
}

// wrong is an error about a place.
func wrong(at hcl.Range, summary, detail string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: &at}
}

func rangeOf(r hcl.Range) object.Range {
	return object.Range{
		File:  r.Filename,
		Start: object.Position{Line: r.Start.Line, Column: r.Start.Column, Byte: r.Start.Byte},
		End:   object.Position{Line: r.End.Line, Column: r.End.Column, Byte: r.End.Byte},
	}
}

// fromHCL gives diagnostics their snippets and our shape.
func fromHCL(diags hcl.Diagnostics, files map[string][]byte) object.Diagnostics {
	var out object.Diagnostics
	for _, d := range diags {
		x := object.Diagnostic{Severity: object.SeverityError, Summary: d.Summary, Detail: d.Detail}
		if u, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallUnknownDiagExtra](d); ok {
			// hclsyntax guesses in the order of a map, and not at all below a child context.
			name := u.CalledFunctionNamespace() + u.CalledFunctionName()
			known := slices.Sorted(maps.Keys(functionsFor("", time.Time{})))
			x.Detail = fmt.Sprintf("There is no function named %q.%s", name, hint(name, known, ""))
		}
		if text := discreetly(d); text != "" {
			x.Detail = text
		}
		if d.Severity == hcl.DiagWarning {
			x.Severity = object.SeverityWarning
		}
		if d.Subject != nil {
			r := rangeOf(*d.Subject)
			x.Range = &r
			x.Snippet = snippet(files[r.File], r.Start.Byte)
		}
		if a, ok := d.Extra.(about); ok {
			x.Address, x.Path = a.address, a.path
		}
		out = append(out, x)
	}
	return out
}

// keyed are the mistakes in which hclsyntax quotes the keys of objects, by themselves
// or inside the mistake of a function such as try.
var keyed = []string{"Duplicate object key", "Inconsistent conditional result types"}

// discreetly is another text for such a mistake, if the expression sees anything
// sensitive, which a key can be; else it is empty.
func discreetly(d *hcl.Diagnostic) string {
	i := slices.IndexFunc(keyed, func(what string) bool { return d.Summary == what || strings.Contains(d.Detail, what) })
	if i < 0 {
		return ""
	}
	for ctx := d.EvalContext; ctx != nil; ctx = ctx.Parent() {
		for _, v := range ctx.Variables {
			if _, marks := v.UnmarkDeep(); isSensitive(marks) {
				return keyed[i] + ". No more is said, for it could show a sensitive value."
			}
		}
	}
	return ""
}

// about is put into a diagnostic's Extra to say which object it is about.
type about struct{ address, path string }

// snippet is the line of a file that holds a byte.
func snippet(src []byte, at int) string {
	if at < 0 || at > len(src) || src == nil {
		return ""
	}
	start := bytes.LastIndexByte(src[:at], '\n') + 1
	end := bytes.IndexByte(src[at:], '\n')
	if end < 0 {
		end = len(src)
	} else {
		end += at
	}
	return strings.TrimRight(string(src[start:end]), "\r")
}
