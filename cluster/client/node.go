package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Report delivers what a node (r.Node) says of itself and its pods; it is also
// its heartbeat.
func (c *Client) Report(ctx context.Context, r object.Report) (object.ReportAnswer, error) {
	var out object.ReportAnswer
	err := c.exchange(ctx, http.MethodPost, "/v1/nodes/"+r.Node+"/report", nil, r, &out)
	return out, err
}

// Content is the plain data of a content that a pod of this node reads.
func (c *Client) Content(ctx context.Context, namespace, name string) (map[string]string, error) {
	var out object.Revealed
	err := c.exchange(ctx, http.MethodGet, "/v1/contents/"+namespace+"/"+name+"/reveal", nil, nil, &out)
	return out.Data, err
}

// IngressSecrets are the plain secrets that an ingress reads, for an ingress node.
func (c *Client) IngressSecrets(ctx context.Context, namespace, name string) (object.IngressSecrets, error) {
	var out object.IngressSecrets
	err := c.exchange(ctx, http.MethodGet, "/v1/namespaces/"+namespace+"/ingresses/"+name+"/secrets", nil, nil, &out)
	return out, err
}

// WatchPods follows the pods bound to a node, whole. Unlike Watch it does not
// reconnect: it returns with what ended it, so that the caller can tell how long
// it has been without masters. With since 0 the pods that exist come first, then
// WatchSynced. CodeGone: since is too old, begin again with 0.
//
// The Index of each event is one that it is safe to resume from: it lags behind
// until all of an entry has been delivered, and is 0 until WatchSynced.
func (c *Client) WatchPods(ctx context.Context, node string, since uint64, each func(object.WatchEvent) error) error {
	return c.watchOnce(ctx, WatchOptions{Kinds: []object.Kind{object.KindPod}, Node: node, Since: since}, each)
}

// watchOnce is one connection's part of a watch with indexes to resume from.
func (c *Client) watchOnce(ctx context.Context, o WatchOptions, each func(object.WatchEvent) error) error {
	synced := o.Since != 0
	return c.watch(ctx, o, func(e object.WatchEvent) error {
		synced = synced || e.Op == object.WatchSynced
		if e.Index = whole(e); !synced {
			e.Index = 0
		}
		return each(e)
	})
}

// networkKinds are what every node follows of the cluster's network.
var networkKinds = []object.Kind{object.KindNetwork, object.KindNode, object.KindService, object.KindEndpoints, object.KindIngress, object.KindPolicyRules}

// WatchNetwork is WatchPods for what every node has to know of the cluster's
// network.
func (c *Client) WatchNetwork(ctx context.Context, since uint64, each func(object.WatchEvent) error) error {
	return c.watchOnce(ctx, WatchOptions{Kinds: networkKinds, Since: since}, each)
}

// AwaitLeft returns when no node sends anything new to a pod that is no longer to
// get any. CodeTimeout: some have not acknowledged it in the time that the masters
// give them; the message names them.
func (c *Client) AwaitLeft(ctx context.Context, pod object.Ref, created uint64) error {
	q := url.Values{"created": {strconv.FormatUint(created, 10)}}
	if until, ok := ctx.Deadline(); ok {
		q.Set("timeout", object.Duration(time.Until(until).Truncate(time.Millisecond)).String())
	}
	return c.exchange(ctx, http.MethodGet, "/v1/namespaces/"+pod.Namespace+"/pods/"+pod.Name+"/left", q, nil, nil)
}
