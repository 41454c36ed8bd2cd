package hcl

import (
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/berthdev/berth/cluster/object"
)

// PureFunctions are the functions whose result depends on their arguments alone:
// those that read files, the machine or the clock are left out, and templates
// with them. What a master evaluates for somebody may call only these.
func PureFunctions() map[string]function.Function {
	all := functionsFor("", time.Time{})
	for name := range all {
		switch {
		case strings.HasPrefix(name, "file"), strings.HasPrefix(name, "template"):
			delete(all, name)
		}
	}
	for _, name := range []string{"abspath", "pathexpand", "timestamp", "plantimestamp"} {
		delete(all, name)
	}
	return all
}

// ValueOf is an object as expressions see it, with the names that configuration
// uses. Values of secrets are placeholders with which no function can compute.
func ValueOf(o object.Object) cty.Value { return valueOf(o) }

// Diagnose brings the parser's diagnostics into Berth's shape, with their lines.
func Diagnose(diags hcl.Diagnostics, files map[string][]byte) object.Diagnostics {
	return fromHCL(diags, files)
}

// Hint is "Did you mean …" for a name that is not known, else otherwise.
func Hint(name string, known []string, otherwise string) string { return hint(name, known, otherwise) }
