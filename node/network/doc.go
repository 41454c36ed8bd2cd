// Package network gives each pod an address on its node and leads packets to the
// pods of other nodes: a bridge per node, a veth pair per pod, addresses handed
// out from the node's range, a route to the range of every other node, through
// VXLAN where that node is not on the same segment.
//
// The kernel is asked over netlink, in the network namespace of the process, and
// is the memory of the routes. The allocations are a small file; a lost file is
// rebuilt from what the caller says still runs. Where the other nodes are it is
// told by its caller; it knows neither services nor policies nor iptables.
package network
