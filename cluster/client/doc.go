// Package client is the other side of the masters' API: for the command line,
// for node agents and for controllers of users' own.
//
// It finds a master that answers, waits out elections for a bounded time, keeps
// watches going over lost connections and gives errors back as the
// *object.Error that the masters meant. It prints nothing and decides nothing.
// It knows the vocabulary (cluster/object) and how to check who is at the other
// end (cluster/pki), not how the masters work.
package client
