package agent

import (
	"context"

	"github.com/berthdev/berth/cluster/object"
)

// Masters is the control plane as a node needs it. Package cluster/client
// implements it over HTTPS; all methods may be called at once and honour their
// context.
type Masters interface {
	// WatchPods calls each for every change of the pods bound to the node, whole
	// (Spec.Pod is set), in the order of their indexes, from one goroutine. With
	// since 0 it first delivers the pods that are there as creates, then
	// WatchSynced; otherwise only what came after since. It returns the error of
	// each, of the context, or of the connection; CodeGone means that since is
	// too old and the caller has to begin again with 0.
	WatchPods(ctx context.Context, node string, since uint64, each func(object.WatchEvent) error) error

	// WatchNetwork is WatchPods for what every node has to know of the cluster's
	// network: nodes, the network, services, endpoints, ingresses, policy rules. A
	// WatchBookmark follows the last line of an entry.
	WatchNetwork(ctx context.Context, since uint64, each func(object.WatchEvent) error) error

	// AwaitLeft returns when no node sends anything new to a pod of this node that
	// is no longer to get any: it has left the endpoints of its services, and every
	// node has put that in force. An error means that it could not be found out;
	// the caller bounds the wait by ctx.
	AwaitLeft(ctx context.Context, pod object.Ref, created uint64) error

	// Report delivers statuses and returns when they are durable. It is also the
	// heartbeat. An error means that it may or may not have happened; the same
	// report may be sent again.
	Report(ctx context.Context, r object.Report) (object.ReportAnswer, error)

	// Content is the plain data of a `content` object: a version of a config map
	// or, when one of this node's pods reads it, of a secret. CodeNotFound means
	// that it does not exist.
	Content(ctx context.Context, namespace, name string) (map[string]string, error)
}
