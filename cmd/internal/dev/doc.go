// Package dev makes a whole cluster on one machine: each master and node is a
// host of its own, a network namespace on a bridge, in which a berth process
// runs with its own data directory (and, on nodes, its own containerd).
//
// It knows hosts, links and processes, and nothing of what runs inside them:
// cmd/berth tells it the command lines and waits for the cluster through the
// client. What it made is written down in dev.json before it is made, so that a
// killed `up` can be continued or taken down.
package dev
