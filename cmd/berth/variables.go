package main

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/alecthomas/kong"

	"github.com/berthdev/berth/hcl"
)

// VariableFlags are --var and --var-file. They mix, and a later one wins, so
// each remembers its place on the command line.
type VariableFlags struct {
	Var     []variable `name:"var" type:"variable" placeholder:"NAME=VALUE" help:"Set a variable."`
	VarFile []variable `name:"var-file" type:"variable" complete:"file" placeholder:"FILE" help:"Set the variables of a file."`
}

type variable struct {
	place int
	text  string
}

// variableMapper decodes both flags; its counter is the place.
func variableMapper() kong.MapperFunc {
	place := 0
	return func(ctx *kong.DecodeContext, target reflect.Value) error {
		var v variable
		if err := ctx.Scan.PopValueInto("value", &v.text); err != nil {
			return err
		}
		place++
		v.place = place
		target.Set(reflect.Append(target, reflect.ValueOf(v)))
		return nil
	}
}

// arguments are both flags in the order given.
func (f VariableFlags) arguments() []hcl.VarArgument {
	type placed struct {
		place int
		arg   hcl.VarArgument
	}
	var all []placed
	for _, v := range f.Var {
		all = append(all, placed{v.place, hcl.VarArgument{Assignment: v.text}})
	}
	for _, v := range f.VarFile {
		all = append(all, placed{v.place, hcl.VarArgument{File: v.text}})
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	out := make([]hcl.VarArgument, len(all))
	for i, p := range all {
		out[i] = p.arg
	}
	return out
}
