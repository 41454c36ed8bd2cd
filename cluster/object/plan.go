package object

import "time"

// PlanFormat is the version of the saved plan and of the plan's JSON.
const PlanFormat = "1.0"

// Plan is what would change and what would happen, sealed by the masters so
// that exactly this can be applied. It holds no secret bytes: sensitive values
// appear by keyed digest.
type Plan struct {
	Format  string            `json:"format_version"`
	Version string            `json:"berth_version"`
	Cluster string            `json:"cluster"` // id of the cluster that sealed it
	Stack   string            `json:"stack"`
	Cause   string            `json:"cause"` // apply, destroy, rollback, undo, restore
	Target  int               `json:"target,omitempty"`
	Base    int               `json:"base"`  // the stack's revision when planned
	Index   uint64            `json:"index"` // state index that it was planned at
	Time    time.Time         `json:"timestamp"`
	Source  Source            `json:"source,omitzero"`
	Changes []PlannedChange   `json:"resource_changes"`
	Expect  []Expectation     `json:"expect,omitempty"` // version vector of what is touched and referred to
	Outputs map[string]Output `json:"outputs,omitempty"`
	// OutputChanges are the outputs that differ from those of the stack.
	OutputChanges map[string]OutputChange `json:"output_changes,omitempty"`
	Waves         int                     `json:"waves"`
	OnFailure     string                  `json:"on_failure,omitempty"`
	Assigned      []Assignment            `json:"assigned,omitempty"`  // what the masters chose; Changes have it already
	Operation     *Operation              `json:"operation,omitempty"` // instead of Changes, and of a stack
	Restore       *Restore                `json:"restore,omitempty"`   // of several stacks, instead of one
	Explanation   *Explanation            `json:"explanation,omitempty"`
	Forecast      Forecast                `json:"forecast"`
	Warnings      Diagnostics             `json:"warnings,omitempty"`
	Images        []PinnedImage           `json:"images,omitempty"`
	Drift         []Drift                 `json:"drift,omitempty"` // what was changed past the stack, as the masters know
	Guards        Guards                  `json:"guards,omitzero"`
	Broken        []Breach                `json:"broken_guards,omitempty"`   // as the masters found when they sealed it
	Verdicts      []PolicyVerdict         `json:"policy_verdicts,omitempty"` // rules of the cluster's policies that it breaks
	Freezes       []Frozen                `json:"freezes,omitempty"`         // that held for it when the masters sealed it
	Lifetime      Duration                `json:"lifetime,omitempty"`        // asked for; 0: PlanLifetime
	Expires       time.Time               `json:"expires,omitzero"`          // by the masters' clock
	Seal          string                  `json:"seal,omitempty"`            // by the masters, over everything else but Explanation

	received [][2]received // before and after of each of Changes, as DecodePlan read or Encoded was told them
}

// Actions of a planned change, as Terraform writes them.
const (
	ActionNoOp   = "no-op"
	ActionCreate = "create"
	ActionUpdate = "update"
	ActionDelete = "delete"
	ActionRead   = "read"
	ActionForget = "forget" // it stays, and belongs to no stack any more
)

// PlannedChange is one object's change.
type PlannedChange struct {
	Ref     Ref    `json:"ref"`
	Address string `json:"address"` // deployment.web, service.api["eu"]
	// From is the name that the object had: what it owns stays. Before is the object
	// as if it had the new one already.
	From     Ref         `json:"moved_from,omitzero"`
	Previous string      `json:"previous_address,omitempty"`
	Actions  []string    `json:"actions"` // Terraform's: ["create"], ["delete","create"] for a replacement
	Reason   string      `json:"action_reason,omitempty"`
	Wave     int         `json:"wave"`
	Before   Any         `json:"before,omitzero"`
	After    Any         `json:"after,omitzero"`
	Fields   []FieldDiff `json:"fields,omitempty"` // of an update or replacement; what is new or gone is so in every field
	Hidden   int         `json:"hidden,omitempty"` // unchanged attributes not in Fields
}

// FieldDiff is one field that changes.
type FieldDiff struct {
	Path      string `json:"path"` // pod.container["web"].image
	Op        Op     `json:"op"`
	Before    any    `json:"before,omitempty"` // JSON values; absent where Sensitive
	After     any    `json:"after,omitempty"`
	Sensitive bool   `json:"sensitive,omitempty"`
	Replaces  bool   `json:"replaces,omitempty"` // forces replacement
	Effect    string `json:"effect,omitempty"`   // the field's effect tag, see Field
	Why       string `json:"why,omitempty"`      // rolls 4 pods, scales in place
}

// OutputChange is one output that changes. Values are JSON values, absent where
// Sensitive.
type OutputChange struct {
	Actions   []string `json:"actions"`
	Before    any      `json:"before,omitempty"`
	After     any      `json:"after,omitempty"`
	Sensitive bool     `json:"sensitive,omitempty"`
}

// Reasons of a planned change.
const (
	ReasonReplaceTemplate = "replace_because_cannot_update" // a bare pod is immutable
	ReasonNoConfig        = "delete_because_no_resource_config"
	ReasonReads           = "update_because_reads" // a config map or secret that it reads changes
	ReasonAdopt           = "adopt"                // it is there already, and belongs to no stack
	ReasonImport          = "import"               // the same, because an import block asks for it
	ReasonForget          = "forget"               // a removed block lets go of it
	ReasonRelease         = "release"              // it stays, but belongs to no stack any more
)

// Forecast is what will happen, rehearsed by the masters' own controllers and
// scheduler on a fork of their state, in virtual time.
type Forecast struct {
	Index      uint64          `json:"index"`
	Outcome    string          `json:"outcome"` // healthy, failed, unfinished
	Reason     string          `json:"reason,omitempty"`
	Duration   Duration        `json:"duration"`
	Steps      []ForecastStep  `json:"timeline,omitempty"`
	Placements []Placement     `json:"placement,omitempty"`
	Unplaced   []Unplaced      `json:"unplaced,omitempty"`
	Stays      []Placement     `json:"stays,omitempty"` // pods that a drain leaves where they are
	Lowest     []Availability  `json:"availability,omitempty"`
	Start      int             `json:"pods_started"`
	Stop       int             `json:"pods_stopped"`
	Unchanged  int             `json:"pods_unchanged"`
	Nodes      []NodePeak      `json:"nodes,omitempty"`
	Namespaces []NamespacePeak `json:"namespaces,omitempty"`  // in which pods come or go
	Use        []NodeUse       `json:"use,omitempty"`         // of a rebalance: of every node
	Starts     []StartTime     `json:"start_times,omitempty"` // of images that ran before; others are estimated by their probes
	PeakCPU    int             `json:"peak_cpu_percent"`      // of the whole cluster's
	PeakMemory int             `json:"peak_memory_percent"`   // of the whole cluster's
	// Reach is who can connect to whom after the apply and could not before, or the
	// other way round: the first of them, and how many more there are. With ReachCut
	// there were too many to go through all.
	Reach     []ReachChange `json:"reachability,omitempty"`
	ReachMore int           `json:"reachability_more,omitempty"`
	ReachCut  bool          `json:"reachability_cut,omitempty"`
	// Explained are the pods that the plan's Explanation asks for. They go into that,
	// not with the forecast.
	Explained []Explanation `json:"-"`
}

// ReachChange is connections that network policies let pass and did not, or do not
// and did. From is a workload, ReachOutside or ReachNodes; To is a service, or
// ReachOutside.
type ReachChange struct {
	From     Ref    `json:"from"`
	To       Ref    `json:"to"`
	Port     int    `json:"port"` // of the service
	Protocol string `json:"protocol"`
	Allowed  bool   `json:"allowed"`
	New      bool   `json:"new,omitempty"` // one of them is: it is compared with how it would be without policies
	Because  string `json:"because"`
}

// Ends of connections that are no object: some host on the Internet, and the
// cluster's nodes, from which what comes by an ingress or a node port reaches pods.
var (
	ReachOutside = Ref{Kind: "outside", Name: "outside"}
	ReachNodes   = Ref{Kind: "nodes", Name: "nodes"}
)

// What a ForecastStep tells.
const (
	StepStart  = "start"  // of a pod
	StepStop   = "stop"   // of a pod
	StepChange = "change" // an object is written
	StepPause  = "pause"  // a person has to end it
	StepCheck  = "check"  // one begins or goes on, and the forecast assumes that it passes
	StepZone   = "zone"   // its turn begins
)

// StepOps are all of them, as the schema of a plan's JSON has them.
var StepOps = []string{StepStart, StepStop, StepChange, StepPause, StepCheck, StepZone}

// ForecastStep is one moment of a rollout.
type ForecastStep struct {
	At       Duration `json:"at"` // since the apply
	Wave     int      `json:"wave"`
	Op       string   `json:"op"` // one of StepOps
	Ref      Ref      `json:"ref"`
	Node     string   `json:"node,omitempty"`
	Workload Ref      `json:"workload,omitzero"`
	Ready    int      `json:"ready"` // of the workload, at this moment
	Want     int      `json:"want"`
	Lowest   bool     `json:"lowest,omitempty"` // readiness is nowhere lower than here
	Note     string   `json:"note,omitempty"`
}

// Placement says where a pod goes.
type Placement struct {
	Pod      Ref    `json:"pod"`
	Node     string `json:"node"`
	Workload Ref    `json:"workload,omitzero"`
}

// Unplaced is a pod that fits nowhere, with the whole reason.
type Unplaced struct {
	Pod    Ref    `json:"pod"`
	Reason string `json:"reason"`
}

// Availability is the lowest readiness that a workload reaches.
type Availability struct {
	Workload Ref      `json:"workload"`
	Ready    int      `json:"ready"`
	Want     int      `json:"want"`
	At       Duration `json:"at"`
}

// StartTime is how long pods of an image took from running to ready.
type StartTime struct {
	Image string   `json:"image"`
	Ready Duration `json:"ready"`
}

// NodePeak is the most that is asked of a node at any moment.
type NodePeak struct {
	Node   string `json:"node"`
	CPU    int    `json:"cpu_percent"`
	Memory int    `json:"memory_percent"`
	Pods   int    `json:"pods"`
}

// NamespacePeak is the most that the pods of a namespace ask for at any moment, as
// its quota counts: pods that are being stopped included, until they are gone.
type NamespacePeak struct {
	Namespace string `json:"namespace"`
	Peak      Quota  `json:"peak"`
	Quota     *Quota `json:"quota,omitempty"`
	// Need is what the peak would be if the quota kept no pod back; absent where it
	// keeps none.
	Need *Quota `json:"need,omitempty"`
}

// NodeUse is what is asked of a node before an operation and after it.
type NodeUse struct {
	Node   string `json:"node"`
	Before Use    `json:"before"`
	After  Use    `json:"after"`
}

// Use is what pods ask of a node.
type Use struct {
	CPU    int `json:"cpu_percent"`
	Memory int `json:"memory_percent"`
	Pods   int `json:"pods"`
}
