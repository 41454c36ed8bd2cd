// Package rollout decides the next safe step of an update: counts of pods in,
// counts of pods out. It knows neither objects nor time nor what a pod is; the
// deployment controller counts, asks, writes, and asks again when the counts
// have changed.
package rollout
