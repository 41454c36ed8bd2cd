package main

import (
	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

// GuardFlags bound what a plan may do. They travel in a saved plan.
type GuardFlags struct {
	MaxDestroy *object.Amount `placeholder:"N|%" help:"Refuse a plan that destroys more objects than this, or than this share of the stack's (exit 5)."`
	MinReady   *object.Amount `placeholder:"N|%" help:"Refuse a plan in which a workload falls below so many ready pods, or below this share (exit 5)."`
	MaxMoved   *uint          `placeholder:"N" help:"Refuse a plan that stops more running pods than this (exit 5)."`
}

func (f GuardFlags) guards() object.Guards {
	return object.Guards{MaxDestroy: f.MaxDestroy, MinReady: f.MinReady, MaxMoved: f.MaxMoved}
}

// sealed has the masters rehearse and seal a plan under these guards, with the
// content that its images' tags stand for.
func (s *session) sealed(cl *client.Client, p *object.Plan, g GuardFlags) (*object.Plan, error) {
	p.Guards, p.Lifetime, p.Explanation = g.guards(), s.lifetime, s.asked
	s.pinImages(cl, p)
	return cl.Plan(s.ctx, p)
}
