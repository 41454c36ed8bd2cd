// Package proxy is the one door to iptables: it keeps Berth's own chains and the
// jumps into them, and touches nothing else of the machine's rules: the way out of
// the pod network, host ports, and services.
//
// The rules of services are a pure function (builder) of the network's view; what
// differs from the kernel's is written. It knows neither pods nor masters: what is
// to be reached is handed in.
package proxy
