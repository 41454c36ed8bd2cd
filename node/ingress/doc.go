// Package ingress is the entrance for requests from outside: it finds the ingress
// and path for a host, does what these ask for, and leads the request straight to
// a ready pod. The routing table is made of a view of the cluster and the secrets
// that ingresses read, is never changed, and is replaced whole, so that a change
// takes no request down. Protocols are the standard library's affair
// (net/http, httputil.ReverseProxy), certificates of authorities certmagic's. The
// package must not know where views and secrets come from, nor anything about
// iptables and virtual addresses of services, which it does not use.
package ingress
