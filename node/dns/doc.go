// Package dns answers the names of services and pods on a node, from the latest
// view of the cluster's network, and asks other name servers for everything else.
//
// A view is turned into a zone, which never changes once it is published: each
// query is answered from one zone, so nobody ever sees half of a change. Names of
// the cluster are never asked for outside. Answers from outside are kept in a
// bounded cache. It knows neither masters nor the agent nor how packets reach it:
// views and the addresses to listen at are handed in.
package dns
