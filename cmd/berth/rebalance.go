package main

import "github.com/berthdev/berth/cluster/object"

// PlanRebalanceCmd is `berth plan rebalance`.
type PlanRebalanceCmd struct {
	MaxMoved uint           `placeholder:"N" default:"10" help:"Move at most so many pods."`
	MinReady *object.Amount `placeholder:"N|%" help:"Refuse a plan in which a workload falls below so many ready pods, or below this share (exit 5)."`
	PlanOutput
	ExplainFlag
}

// Run rehearses the moves that the masters choose.
func (c *PlanRebalanceCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	s.asked = c.asked()
	return s.planOperation(cl, object.Operation{Name: object.OperationRebalance, Most: int(c.MaxMoved)}, c.PlanOutput, GuardFlags{MinReady: c.MinReady})
}
