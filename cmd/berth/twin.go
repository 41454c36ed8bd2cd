package main

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/planner"
)

// twin is a cluster in this process's memory: the masters' state, on which their
// controllers and scheduler run in virtual time, against modelled nodes.
type twin struct {
	store *state.Store
	now   time.Time
}

func newTwin(nodes []*object.Node, now time.Time) (*twin, error) {
	w := &twin{store: state.New(), now: now}
	c := object.Changeset{Author: "test", Reason: "given nodes", Time: now}
	for _, n := range nodes {
		c.Create(n.Clone())
	}
	_, err := w.store.Apply(1, c)
	return w, err
}

// read answers data blocks.
func (w *twin) read(ref object.Ref) (object.Object, error) {
	if o, ok := w.store.Snapshot().Get(ref); ok {
		return o, nil
	}
	e := object.Errorf(object.CodeNotFound, ref, "does not exist")
	e.Hint = "The test has it only if a configuration that is given, or an earlier run, declares it."
	return nil, e
}

// plan is what berth plan would answer.
func (w *twin) plan(cfg *hcl.Configuration) (*object.Plan, object.Diagnostics) {
	for i := range cfg.Objects {
		secret, ok := cfg.Objects[i].Object.(*object.Secret)
		if !ok {
			continue
		}
		secret.Spec.Data = maps.Clone(secret.Spec.Data)
		for _, key := range slices.Sorted(maps.Keys(secret.Spec.Data)) {
			if plain, ok := secret.Spec.Data[key].Reveal(); ok { // the digest leaves this process no more than the value does
				digest := sha256.Sum256([]byte(plain))
				secret.Spec.Data[key] = secret.Spec.Data[key].WithDigest(hex.EncodeToString(digest[:]))
			}
		}
	}
	r := planner.Request{Version: version, Now: w.now, Stack: cfg.Stack, Source: cfg.Source, Outputs: cfg.Outputs, Objects: desired(cfg)}
	refactored(&r, cfg)
	p, diags := planner.Diff(w.store.Snapshot(), r)
	if diags.HasErrors() {
		return nil, diags
	}
	w.foresee(&p)
	return &p, diags
}

// operation is what berth plan node-loss and berth plan drain would answer.
func (w *twin) operation(name string, nodes []string) *object.Plan {
	p := &object.Plan{Format: object.PlanFormat, Version: version, Operation: &object.Operation{Name: name}}
	for _, n := range nodes {
		p.Operation.On = append(p.Operation.On, object.Ref{Kind: object.KindNode, Name: n})
	}
	w.foresee(p)
	return p
}

func (w *twin) foresee(p *object.Plan) {
	v := w.store.Snapshot()
	p.Index, p.Time = v.Index(), w.now
	p.Forecast = planner.Forecast(v.Fork(), p, w.now, planner.DefaultNodes, consensus.Parallel)
}

// apply carries a plan out and waits, in virtual time, until nothing more happens.
func (w *twin) apply(p *object.Plan) (summary, detail string) {
	if n := len(p.Forecast.Unplaced); n > 0 && p.Operation == nil { // which berth apply refuses
		u := p.Forecast.Unplaced[0]
		return "A pod fits on no node", u.Pod.Name + ": " + u.Reason + ". Nothing was applied; give the test larger nodes, or ask for less."
	}
	end := planner.Carry(w.store, p, w.now, planner.DefaultNodes, consensus.Parallel)
	w.now = end.At
	if end.Outcome != planner.OutcomeHealthy {
		return "The apply does not end well", "It is " + end.Outcome + ": " + end.Reason + "."
	}
	return "", ""
}
