// Package scheduler says which node each waiting pod goes to, and for a pod that
// fits nowhere the whole reason why. It is a function of a state.Snapshot: it
// reads pods, templates, nodes and the placements that a running revision
// planned, and answers with a Changeset of bindings, status messages and events.
// It also explains one pod's placing in full, and says which pods to move for nodes
// to be evenly used.
// It starts nothing, waits for nothing and knows neither controllers nor Raft;
// cluster/master proposes what it answers, package planner rehearses with it.
//
// It finds the exact best node every time, never a sample: equal snapshots give
// equal placements, which is why a plan can promise where pods go. What it keeps
// between calls (see kernel.go) is a cache: a fresh Scheduler answers the same.
package scheduler
