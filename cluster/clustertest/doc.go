// Package clustertest runs real masters and simulated nodes inside one test:
// the same consensus, loops, API and client as in earnest, with Raft over a
// network in memory that can be cut, the API on loopback with mutual TLS, and
// nodes from node/fake. It is for tests of this and other packages; it asserts
// nothing by itself except that the cluster starts.
package clustertest
