// Package proxy is the one door to iptables: it keeps Berth's own chains and the
// jumps into them, and touches nothing else of the machine's rules: the way out of
// the pod network, host ports, services, and network policies.
//
// The rules of services and policies are pure functions (builder, policyBuilder) of
// the network's view and the pods of this node; what differs from the kernel's is
// written. It knows no masters: what is to be reached, and by whom, is handed in.
package proxy
