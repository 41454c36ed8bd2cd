// Package probe asks containers how they are: it repeats an http, tcp or exec
// probe and tells when enough successes or failures in a row have made a
// verdict. The addresses of pods are reached from the network namespace that the
// process runs in; commands are run by a function that the caller hands in.
//
// It knows nothing of pods, of their life or of what a verdict leads to.
package probe
