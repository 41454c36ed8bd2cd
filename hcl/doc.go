// Package hcl turns a directory of configuration into desired objects, with
// every mistake of a run at its file, line and column.
//
// It reads *.hcl and *.hcl.json files and variable files, evaluates variables,
// locals and objects in the order of their references, and fills the structs of
// package object by a walk over their tags, so that it knows no kind by name.
// It knows no cluster: what a plan makes of the objects is for others. With
// packages policy and lsp below it, it is the only one that imports hashicorp/hcl and go-cty.
package hcl
