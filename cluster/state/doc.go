// Package state says what is so at a Raft index: a tree of immutable objects
// with the indexes that controllers and the scheduler need, snapshots and forks
// of it that cost nothing, and Apply, the only way to change it.
//
// It is a value: no disk, no network, no clock, no goroutine. Package consensus
// feeds it the Raft log, package planner rehearses on forks of it, tests fill it
// by hand. Equal entries give equal bytes on every master.
package state
