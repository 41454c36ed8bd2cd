// Package lsp is the language server: what an editor asks about configurations,
// answered over JSON-RPC while they are being typed.
//
// Mistakes come from hcl.Load, which is given the texts that are not saved yet;
// hover and completion come from the tags of package object, as the reference and
// the JSON schema do, and from an outline of the files that is made whatever they
// lack. It asks no cluster and no network, and writes nothing: changes are handed
// to the editor. Package cmd/berth gives it the two ends of the editor's pipe.
package lsp
