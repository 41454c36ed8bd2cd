package planner

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// NodeModel says how long things take on a modelled node. The zero value of a
// field is replaced by that of DefaultNodes.
type NodeModel struct {
	Pull     time.Duration // to fetch an image that runs nowhere on the node yet
	Start    time.Duration // from the bind until the containers run
	Init     time.Duration // each init container
	Warmup   time.Duration // from running until a readiness probe can succeed
	Stop     time.Duration // from the stop signal to the end; at most the pod's grace
	Deadline time.Duration // longest virtual time to look ahead
}

// DefaultNodes are figures measured on real nodes, rounded up.
var DefaultNodes = NodeModel{
	Pull: 2 * time.Second, Start: 400 * time.Millisecond, Init: time.Second, Warmup: 500 * time.Millisecond,
	Stop: 500 * time.Millisecond, Deadline: time.Hour,
}

var _ object.Forecast
