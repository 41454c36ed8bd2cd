// Package consensus keeps one state.Store the same on every master: it is Raft
// (hashicorp/raft with raft-boltdb) around package state, and the only package
// that imports raft. Changesets go in through Propose, are committed in groups
// and come out as snapshots and as a log of events that can be watched from any
// recent index. It knows nothing of kinds, rollouts or users; package master
// starts it and acts on what it says about leadership.
package consensus
