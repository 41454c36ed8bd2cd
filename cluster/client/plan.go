package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/berthdev/berth/cluster/object"
)

// Plan has the leader rehearse and seal a plan. What the plan changes is not sent
// back: it is the caller's, shared with the answer, which has what the masters chose.
func (c *Client) Plan(ctx context.Context, p *object.Plan) (*object.Plan, error) {
	var out object.Plan
	if err := c.exchange(ctx, http.MethodPost, "/v1/plan", url.Values{"brief": {"true"}}, p, &out); err != nil {
		return nil, err
	}
	if p.Operation != nil {
		return &out, nil
	}
	out.Changes, out.Expect, out.Outputs, out.OutputChanges = p.Changes, p.Expect, p.Outputs, p.OutputChanges
	out.Assign(out.Assigned)
	return &out, nil
}

// Stack tells how the masters' state differs from what a stack's configuration
// claims. It only reads, and may be asked of any master again.
func (c *Client) Stack(ctx context.Context, stack string, claims []object.Claim) (object.StackState, error) {
	var raw struct {
		Index   uint64            `json:"index"`
		Same    []uint64          `json:"same"`
		Objects []json.RawMessage `json:"objects"`
	}
	if claims == nil {
		claims = []object.Claim{}
	}
	k := call{method: http.MethodPost, path: "/v1/stacks/" + url.PathEscape(stack) + "/compare"}
	if err := c.request(ctx, k, object.StackRequest{Claims: claims}, &raw); err != nil {
		return object.StackState{}, err
	}
	if len(raw.Same) != len(claims) {
		return object.StackState{}, object.Errorf(object.CodeInternal, object.Ref{}, "the master compared %d objects of %d", len(raw.Same), len(claims))
	}
	out := object.StackState{Index: raw.Index, Same: raw.Same, Objects: make([]object.Any, len(raw.Objects))}
	return out, decodeItems(raw.Objects, out.Objects)
}

// Apply commits a sealed plan. CodeStale: an object that it touches or refers to
// has changed; CodeUnplaceable: the forecast has pods that fit nowhere.
func (c *Client) Apply(ctx context.Context, r object.ApplyRequest) (object.Applied, error) {
	var out object.Applied
	err := c.exchange(ctx, http.MethodPost, "/v1/apply", nil, r, &out)
	return out, err
}

// Digests gives the keyed digest of each plain value.
func (c *Client) Digests(ctx context.Context, values []string) ([]string, error) {
	out, err := c.Compare(ctx, object.DigestRequest{Values: values})
	return out.Digests, err
}

// Compare is Digests, and also tells which values a secret holds already: the way
// for a planner, who may not read digests, to know whether a secret would change.
func (c *Client) Compare(ctx context.Context, r object.DigestRequest) (object.Digests, error) {
	var out object.Digests
	if len(r.Values) == 0 {
		return out, nil
	}
	if err := c.exchange(ctx, http.MethodPost, "/v1/digests", nil, r, &out); err != nil {
		return out, err
	}
	if len(out.Digests) != len(r.Values) {
		return out, object.Errorf(object.CodeInternal, object.Ref{}, "the master gave %d digests for %d values", len(out.Digests), len(r.Values))
	}
	return out, nil
}
