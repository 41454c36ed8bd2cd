// Package proxy is the one door to iptables: it keeps Berth's own chains and the
// jumps into them, and touches nothing else of the machine's rules. So far that
// is the way out of the pod network and host ports; services follow.
//
// It knows neither pods nor masters: what is to be reached is handed in.
package proxy
