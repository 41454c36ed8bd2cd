package client

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/berthdev/berth/cluster/object"
)

// Plan has the leader rehearse and seal a plan. What the plan changes is not sent
// back: it is the caller's, shared with the answer, which has what the masters chose.
func (c *Client) Plan(ctx context.Context, p *object.Plan) (*object.Plan, error) {
	var out object.Plan
	k := call{method: http.MethodPost, path: "/v1/plan", query: url.Values{"brief": {"true"}}, repeatable: true} // it only reads
	if err := c.request(ctx, k, p, &out); err != nil {
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
	k := call{method: http.MethodPost, path: "/v1/stacks/" + url.PathEscape(stack) + "/compare", repeatable: true}
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
// has changed; CodeUnplaceable: the forecast has pods that fit nowhere. Should the
// leader be lost before it answers, the next one is asked: the request carries a
// name, and what it has become already is not done twice. A plan of an operation
// leaves no revision to be known by; of that CodeTimeout says that nobody knows.
func (c *Client) Apply(ctx context.Context, r object.ApplyRequest) (object.Applied, error) {
	if r.Attempt == "" {
		r.Attempt = cryptorand.Text()
	}
	var out object.Applied
	named := r.Plan.Operation == nil
	err := c.request(ctx, call{method: http.MethodPost, path: "/v1/apply", once: !named, repeatable: named}, r, &out)
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
	if err := c.request(ctx, call{method: http.MethodPost, path: "/v1/digests", repeatable: true}, r, &out); err != nil {
		return out, err
	}
	if len(out.Digests) != len(r.Values) {
		return out, object.Errorf(object.CodeInternal, object.Ref{}, "the master gave %d digests for %d values", len(out.Digests), len(r.Values))
	}
	return out, nil
}
