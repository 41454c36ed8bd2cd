package object

import "time"

// Report is what a node tells the masters: POST /v1/nodes/{name}/report. It is
// also the node's heartbeat, so that a node with nothing to tell sends an empty
// one.
type Report struct {
	Node string `json:"node"`
	// Labels are given to the node when it reports for the first time; later
	// they belong to the people who change them.
	Labels map[string]string `json:"labels,omitempty"`
	Status *NodeStatus       `json:"status,omitempty"` // nil: as before
	Pods   []PodReport       `json:"pods,omitempty"`   // only those that changed
	// Applied is the newest index whose services, endpoints and ingresses the
	// node's proxies have put in force: nothing new goes to a pod that had left by
	// then. 0: it does not proxy, and nobody needs to wait for it.
	Applied uint64 `json:"applied,omitempty"`
	// Time is the node's clock when it sent the report.
	Time time.Time `json:"time,omitzero"`
	// Events are worth telling a person; each is told once.
	Events []NodeEvent `json:"events,omitempty"`
}

// NodeEvent is something that happened on a node.
type NodeEvent struct {
	Reason  string `json:"reason"` // a word, such as rules_repaired
	Warning bool   `json:"warning,omitempty"`
	Message string `json:"message"`
}

// PodReport is the status of one incarnation of a pod. One that is meant for
// another incarnation (Meta.Created) or for a pod that is gone is passed over.
type PodReport struct {
	Ref     Ref       `json:"ref"`
	Created uint64    `json:"created"`
	Status  PodStatus `json:"status"`
}

// ReportAnswer acknowledges a Report: everything in it is durable.
type ReportAnswer struct {
	Index     uint64   `json:"index"`     // the state contains the report from this index on
	Heartbeat Duration `json:"heartbeat"` // how long to wait at most until the next report
}

// WatchOp is what a line of a watch tells.
type WatchOp string

// The lines of a watch. Synced ends the objects that were there when the watch
// began; Bookmark only moves the index on.
const (
	WatchCreate   WatchOp = "create"
	WatchUpdate   WatchOp = "update"
	WatchDelete   WatchOp = "delete"
	WatchSynced   WatchOp = "synced"
	WatchBookmark WatchOp = "bookmark"
)

// WatchEvent is one line of GET /v1/watch. Object is absent in a delete, a
// synced and a bookmark.
type WatchEvent struct {
	Index  uint64  `json:"index"`
	Op     WatchOp `json:"op"`
	Ref    Ref     `json:"ref,omitzero"`
	Object Any     `json:"object,omitzero"`
	Error  *Error  `json:"error,omitempty"` // of WatchError
}
