// Package agent keeps promises on one machine: desired pods come in from the
// masters' watch, containers run, and what became of them goes out in batched
// reports, which are also the node's heartbeat.
//
// It is the hand that holds the tools: container runtime, network, volumes and
// probes are interfaces declared here, and the tools know neither the agent nor
// one another. A checkpoint on disk keeps the desired pods, so that the agent
// goes on serving them while no master answers and adopts what runs after a
// restart. Secrets are never in the checkpoint.
package agent
