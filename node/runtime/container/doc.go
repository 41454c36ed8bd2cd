// Package container is the vocabulary between a node's agent and whatever runs
// containers for it: what to start, what runs, what ended, and the errors that
// an agent acts upon. It knows neither containerd nor the agent, so that the
// real runtime, a fake one and the agent can share it.
package container
