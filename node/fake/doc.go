// Package fake is a node without containers: it takes pods from the masters and
// reports them starting, running, ready, crashing or slow, as a script keyed by
// image name says. Tests and simulations of thousands of nodes in one process
// use it, inside testing/synctest as well as in real time.
//
// It knows no disk, no containers and no network beyond the Masters it is given.
package fake
