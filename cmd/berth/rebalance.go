package main

import "github.com/berthdev/berth/cluster/object"

// PlanRebalanceCmd is `berth plan rebalance`.
type PlanRebalanceCmd struct {
	MaxMoved int `placeholder:"N" default:"10" help:"Move at most so many pods."`
	PlanOutput
	ExplainFlag
}

// Run rehearses the moves that the masters choose.
func (c *PlanRebalanceCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	return s.planOperation(cl, object.Operation{Name: object.OperationRebalance, Most: c.MaxMoved}, c.PlanOutput, c.ExplainFlag)
}
