package hcl

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Options says with what a configuration is evaluated. The zero value is a
// configuration without variables from outside.
type Options struct {
	// Vars are the --var and --var-file arguments in the order given; a later one wins.
	Vars []VarArgument
	// Environ is the environment as os.Environ gives it; BERTH_VAR_name sets a variable.
	Environ []string
	// Version of berth, for required_version. Empty: not checked.
	Version string
	// Now is what timestamp() returns; zero makes timestamp() an error.
	Now time.Time
	// Read answers data blocks with an object as the masters have it. Nil: there are
	// no masters to ask, and what data blocks read is unknown.
	Read func(object.Ref) (object.Object, error)
	// Input asks a person for a variable that has no value. Nil: that is an error.
	Input func(Question) (string, error)
	// Modules finds a module whose source does not begin with ./ or ../, the same
	// for equal sources. It is not called by more than one goroutine at once. Nil:
	// such sources are errors.
	Modules func(source string) (Fetched, error)
	// Overlay holds texts that are not saved yet, by absolute path: they stand in the
	// place of the files, and beside them if there are none.
	Overlay map[string][]byte
	// Unset lets variables do without a value: it is not known then, and neither is
	// what depends on it. Editors look at configurations so, and at modules alone.
	Unset bool

	given map[string]given // by a test, over everything else
}

// VarArgument is one --var NAME=VALUE or one --var-file FILE; exactly one field is set.
type VarArgument struct {
	Assignment string // NAME=VALUE
	File       string
}

// Question is a variable without a value.
type Question struct {
	Name        string
	Description string
	Sensitive   bool
}

// Configuration is what a directory asks for.
type Configuration struct {
	Stack     string // name of the stack
	Namespace string // where objects go that say nothing else
	// Objects are ordered by address (kind in the order of object.Kinds, then name).
	Objects []Declared
	Outputs map[string]object.Output
	// SensitiveOutputs holds the JSON text of sensitive outputs; Outputs has no value for them.
	SensitiveOutputs map[string]object.Sensitive
	// Moves, Removals and Imports are what moved, removed and import blocks say.
	Moves    []Move
	Removals []Removal
	Imports  []Import
	// Reads are the versions of what data blocks have read.
	Reads   []object.Expectation
	pending []pending // see Judge

	Source object.Source     // Commit is left to the caller
	Files  map[string][]byte // as read, by the names that ranges use
}

// Declared is one desired object. Meta and Spec are complete; versions are zero.
// Secrets carry their plain text (Sensitive.Reveal).
type Declared struct {
	Address    string // deployment.web, service.api["eu"], pod.w[0]
	Object     object.Object
	References []object.Ref // objects of this configuration that it refers to, directly or through locals; sorted
	DependsOn  []object.Ref // from depends_on; sorted
	// IgnoreChanges are field paths as the diff writes them (replicas,
	// pod.container["web"].image); "all" ignores every change.
	IgnoreChanges []string
	Range         object.Range // the block's header
}
