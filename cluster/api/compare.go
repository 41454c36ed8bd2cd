package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// comparePath ends the path of the one POST that only reads.
const comparePath = "/compare"

type compareInput struct {
	place
	Stale   bool `query:"stale" doc:"Answer with what this master knows, which may be behind."`
	RawBody []byte
}

// postCompare tells a planner all that it has to know of the state, and sends
// only what is not as the planner has it already: of ten thousand objects of which
// one has changed, that one.
func (s *Server) postCompare(ctx context.Context, in *compareInput) (*listing, error) {
	var req object.StackRequest
	if err := decode(in.RawBody, &req); err != nil {
		return nil, err
	}
	who, v := identityOf(ctx), s.Cluster.Snapshot()
	same := make([]uint64, len(req.Claims))
	named := make(map[object.Ref]bool, len(req.Claims))
	var rest []object.Object
	for i, c := range req.Claims {
		if info, ok := object.Info(c.Ref.Kind); !ok || !info.Declared {
			return nil, object.Errorf(object.CodeInvalid, c.Ref, "a %s cannot be declared", c.Ref.Kind)
		}
		o, ok := v.Get(c.Ref)
		if !ok {
			continue
		}
		if m := o.Head(); c.Fingerprint != "" && m.Stack == in.Name && m.Owner.IsZero() && s.prints.of(o) == c.Fingerprint {
			same[i] = m.Version
			named[c.Ref] = true
			continue
		}
		if !named[c.Ref] {
			named[c.Ref] = true
			rest = append(rest, o)
		}
	}
	for _, info := range object.Kinds() {
		if !info.Declared {
			continue
		}
		for o := range v.List(info.Kind, state.OfStack(in.Name)) {
			if o.Head().Owner.IsZero() && !named[o.Ref()] {
				rest = append(rest, o)
			}
		}
	}
	if o, ok := v.Get(object.Ref{Kind: object.KindStack, Name: in.Name}); ok {
		rest = append(rest, o)
	}
	versions, err := json.Marshal(same)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `{"index":%d,"same":%s,"objects":[`, v.Index(), versions)
	e := json.NewEncoder(&out)
	for i, o := range rest {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := e.Encode(Selection{}.present(who, v, o)); err != nil {
			return nil, err
		}
	}
	out.WriteString("]}\n")
	return &listing{ContentType: "application/json", Body: out.Bytes()}, nil
}
