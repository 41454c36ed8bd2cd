// Package network gives each pod an address on its node: a bridge per node, a
// veth pair per pod, addresses handed out from the node's range.
//
// The kernel is asked over netlink, in the network namespace of the process. The
// allocations are a small file; a lost file is rebuilt from what the caller says
// still runs. It knows neither services nor other nodes nor iptables.
package network
