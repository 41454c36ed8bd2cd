// Package api is the door of the masters: objects, watches, plans and their
// application, nodes' reports, joins, streams from nodes, as plain JSON over
// HTTP with mutual TLS, described by an OpenAPI document that it serves itself.
//
// It decides who may do what (route.go has the whole table) and turns every
// write into a Changeset for Cluster, which it knows only as an interface; the
// forecast of a plan is a function that cmd/berth hands in. On a master that
// does not lead, it passes writes and linearizable reads on to the leader. It
// holds no state of its own that matters.
package api
