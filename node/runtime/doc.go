// Package runtime runs containers on containerd: images, the pods' namespaces,
// containers, logs, commands inside them, counters. It is the only package that
// knows containerd; what goes in and out of it is the vocabulary of package
// container, so it knows neither pods' templates nor networks nor masters.
//
// What it must remember it keeps where it survives a kill -9 of this process and
// of containerd: labels of containers, and files beside them (see store.go and
// logs.go). Open finds everything again without touching what runs.
package runtime
