package hcl

import (
	"slices"
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

// Functions are all functions of the language, for those who describe them: files
// are not read by these, and there is no clock.
func Functions() map[string]function.Function { return functionsFor("", time.Time{}) }

// BlockNames are the blocks that may stand at the top of a file.
func BlockNames() []string { return blockNames() }

// AttributesOf lists what a reference to an object of a kind can name, sorted.
func AttributesOf(info object.KindInfo) []string { return slices.Clone(attributesOf(info)) }

// ForeseenNames lists what conditions can ask of plan, and of a workload in it:
// plan.duration, plan.deployment["web"].min_ready.
func ForeseenNames() (plan, workload []string) {
	return slices.Clone(foreseenNames), slices.Clone(foreseenWorkloads)
}
