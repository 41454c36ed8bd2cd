// Package master is the running master: it opens consensus, serves the API, and
// while it leads carries out what the pure parts decide. Every goroutine of the
// control plane starts here or in consensus.
//
// It holds what is true only of the leader of the moment: which nodes were heard
// when, which changesets are under way. All of it can be lost at any time; the
// next leader begins from the state alone.
package master
