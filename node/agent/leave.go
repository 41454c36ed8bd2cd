package agent

import (
	"context"
	"time"
)

// awaitLeft lets traffic leave before the signal comes: it waits until the masters
// know that the pod stops, and every node's proxies that it has.
func (w *worker) awaitLeft(ctx context.Context, told <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, w.a.cfg.LeaveTime)
	defer cancel()
	select {
	case <-told:
	case <-ctx.Done():
		return
	}
	if len(w.a.cfg.Tools) == 0 {
		return // no part of the cluster's network: nobody was led here
	}
	if err := w.a.cfg.Masters.AwaitLeft(ctx, w.pod.Ref(), w.pod.Created); err != nil {
		w.log.Info("stopping although not every node has acknowledged it", "error", err)
	}
}

const (
	// quietTime is the longest that a pod whom nobody new is led to is left to what
	// it is answering; at most half of its grace.
	quietTime = 2 * time.Second
	quietLook = 25 * time.Millisecond
)

// awaitQuiet lets what is under way end: requests of which the pod has not had its
// last byte yet, or the caller not its answer. A server that ends at once when it is
// told to would lose them. Connections that are kept open for more are not waited
// for to the end.
func (w *worker) awaitQuiet(ctx context.Context) {
	t := w.pod.Spec.Pod
	if w.a.cfg.Connections == nil || t == nil || w.namespaces.Net == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(quietTime, t.Grace.D()/2))
	defer cancel()
	for {
		n, err := w.a.cfg.Connections(w.namespaces.Net)
		if err != nil {
			w.log.Debug("connections cannot be counted", "error", err)
			return
		}
		if n == 0 || !sleep(ctx, quietLook) {
			return
		}
	}
}
