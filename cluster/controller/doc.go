// Package controller says what should be done next: one reconciler for each
// kind, in a file named after it. A reconciler is a function of a snapshot, a
// key and a time; it compares what is with what is wanted and answers with one
// changeset and the time at which to look again. It looks at the state as it
// is, never at what happened, so lost, doubled and reordered events do no harm.
//
// No reconciler starts a goroutine, reads a clock, draws a random number or
// keeps anything between two calls: all progress lives in the objects, and a new
// leader goes on in the middle of a step. Who runs them is not known here:
// cluster/master does it for the cluster, package planner does it in virtual
// time on a fork, both by way of Queue. Where pods go is the business of
// cluster/scheduler; the two meet only in the state.
package controller
