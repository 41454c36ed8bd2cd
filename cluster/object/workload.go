package object

import (
	"strconv"
	"time"
)

// Annotations that Berth keeps on the replica sets of a deployment.
const (
	AnnotationVersion    = "berth/version"    // digest of the template, of what it reads, of what its images are pinned to, and of Restarted
	AnnotationGeneration = "berth/generation" // raised each time that the set becomes the wanted one
)

// ReplicaSetSpec keeps a number of equal pods.
type ReplicaSetSpec struct {
	Replicas int         `json:"replicas" hcl:"replicas" default:"1" effect:"scales" doc:"How many pods."`
	Pod      PodTemplate `json:"pod" hcl:"pod,block,required" effect:"new_pods" doc:"What each pod runs. A change applies to pods made later."`

	// The deployment controller says where, while a rollout goes zone by zone.
	Into  *Into  `json:"into,omitempty" hcl:"-"`
	OutOf *OutOf `json:"out_of,omitempty" hcl:"-"`
}

// ReplicaSetStatus counts the set's pods.
type ReplicaSetStatus struct {
	Observed uint64 `json:"observed,omitempty"` // Meta.Version that these counts speak of
	Total    int    `json:"total,omitempty"`    // pods that are not stopping
	Ready    int    `json:"ready,omitempty"`
	Unplaced int    `json:"unplaced,omitempty"`
	// Failures counts pods seen failing since FailuresSince, so that a rollout
	// can tell a bad version from a bad node; LastFailure is for people.
	Failing     int    `json:"failing,omitempty"`
	LastFailure string `json:"last_failure,omitempty"`
}

// ReplicaSet keeps Spec.Replicas pods of one template.
type ReplicaSet struct {
	Meta   `json:"meta"`
	Spec   ReplicaSetSpec   `json:"spec"`
	Status ReplicaSetStatus `json:"status,omitzero"`
}

func (o *ReplicaSet) SpecPtr() any   { return &o.Spec }
func (o *ReplicaSet) StatusPtr() any { return &o.Status }
func (o *ReplicaSet) Clone() Object  { c := *o; return &c }

// DeploymentSpec is a versioned set of pods and the way from one version to the next.
type DeploymentSpec struct {
	Replicas int         `json:"replicas" hcl:"replicas" default:"1" effect:"scales" doc:"How many pods."`
	Update   Update      `json:"update,omitzero" hcl:"update,block" doc:"How to get from one version to the next."`
	History  int         `json:"history" hcl:"history" default:"10" doc:"Old versions kept for undo."`
	Pod      PodTemplate `json:"pod" hcl:"pod,block,required" doc:"What each pod runs. A change is a new version: the pods roll."`

	// What people do by hand to a running rollout is not configuration; a plan
	// leaves it as it is.
	Paused    bool      `json:"paused,omitempty" hcl:"-"`
	Restarted time.Time `json:"restarted,omitzero" hcl:"-" effect:"rolls"`
	Promoted  string    `json:"promoted,omitempty" hcl:"-"` // the pause of a canary that a person has ended, see CanaryStatus.Token
	Aborted   string    `json:"aborted,omitempty" hcl:"-"`  // the version that a person gave up
	Released  string    `json:"released,omitempty" hcl:"-"` // the revision whose promise of ready pods a person gave up
	Retries   int       `json:"retries,omitempty" hcl:"-"`  // how often a person had a rollout tried again, see Retry
}

// Update is the way from one version of a deployment to the next.
type Update struct {
	Strategy         string       `json:"strategy" hcl:"strategy" default:"rolling" enum:"rolling,canary,blue_green,recreate" doc:"rolling: pod by pod; canary: in steps, each with a weight of the connections, then as rolling; blue_green: all new pods beside the old ones, then all connections at once; recreate: stop all, then start all."`
	Surge            Amount       `json:"surge" hcl:"surge" default:"25%" doc:"Pods that may run beyond replicas; a share is rounded up."`
	Unavailable      Amount       `json:"unavailable" hcl:"unavailable" default:"0" doc:"Pods that may be missing from replicas; a share is rounded down."`
	MinReadyTime     Duration     `json:"min_ready_time,omitempty" hcl:"min_ready_time" doc:"A new pod counts after it has been ready this long."`
	ProgressDeadline Duration     `json:"progress_deadline" hcl:"progress_deadline" default:"2m" doc:"A rollout that makes no progress for this long has failed."`
	Steps            []CanaryStep `json:"steps,omitempty" hcl:"step,block" doc:"Steps of a canary, in order; of a rolling update, the points at which it pauses."`
	Checks           []Check      `json:"checks,omitempty" hcl:"check,block" doc:"Checks that run beside the steps, from the first one until the rollout is complete, and have to tell something before it is."`
	By               string       `json:"by,omitempty" hcl:"by" doc:"Of a rolling update: a label or attribute of the nodes, usually zone. The pods of one zone are replaced and available before those of the next are touched; pods on nodes without it come last."`
	Zones            *Zones       `json:"zones,omitempty" hcl:"zones,block" doc:"With by: in which order, and what to wait for between two zones."`
	BlueGreen        *BlueGreen   `json:"blue_green,omitempty" hcl:"blue_green,block" doc:"When a blue-green update switches, and how long it can go back at once."`
	OnFailure        string       `json:"on_failure" hcl:"on_failure" default:"revert" enum:"revert,pause" doc:"Put the whole revision back, or stop and wait for a person."`
}

// BlueGreen is how the connections go over from all old pods to all new ones.
type BlueGreen struct {
	After       Duration `json:"after,omitempty" hcl:"after" doc:"How long all new pods have to be ready before the connections go over."`
	Manual      bool     `json:"manual,omitempty" hcl:"manual" doc:"The connections go over when somebody says: berth rollout promote."`
	Keep        Duration `json:"keep" hcl:"keep" default:"5m" doc:"How long the old pods stay after that: so long the way back starts no pod."`
	Checks      []Check  `json:"checks,omitempty" hcl:"check,block" doc:"Checks that have to pass before the connections go over, once all new pods are ready."`
	ChecksAfter []Check  `json:"checks_after,omitempty" hcl:"check_after,block" doc:"Checks that have to pass after the connections went over, while the old pods are kept, be it longer than keep says. One that fails leads the connections back at once."`
}

// Switch is how the connections of a blue-green update go over.
func (u *Update) Switch() BlueGreen {
	if u.BlueGreen != nil {
		return *u.BlueGreen
	}
	return BlueGreen{Keep: Duration(5 * time.Minute)}
}

// CanaryStep is a part of the way of a canary: first the pods, then the
// connections, then the pause. A rolling update has steps without a weight.
type CanaryStep struct {
	Name   string   `json:"name" hcl:"name,label" doc:"Name of the step."`
	Weight int      `json:"weight" hcl:"weight" doc:"Connections out of a hundred that the new version gets, in every service that leads to it; no less than in the step before. Of a canary only, where every step has one."`
	Scale  Amount   `json:"scale,omitzero" hcl:"scale" doc:"Pods of the new version; default: the weight's part of replicas. One at least, and no fewer than in the step before. A step of a rolling update needs it."`
	Pause  Duration `json:"pause,omitempty" hcl:"pause" doc:"How long to stay at this step once it is reached."`
	Manual bool     `json:"manual,omitempty" hcl:"manual" doc:"Stay at this step until somebody says: berth rollout promote."`
	Checks []Check  `json:"checks,omitempty" hcl:"check,block" doc:"Checks that have to pass before the next step; they run during the pause, and a person is asked when they have passed."`
}

// AfterSwitch is CheckStatus.Step of the checks that a blue-green update has after the
// connections went over.
const AfterSwitch = "switch"

// CanaryStatus is how far a rollout by steps is: a canary, a blue-green one, one
// with pauses or by zones.
type CanaryStatus struct {
	Set    string    `json:"set"`             // the version that the steps lead to
	Step   int       `json:"step"`            // steps done
	Weight int       `json:"weight"`          // connections out of a hundred that Set gets
	Since  time.Time `json:"since,omitzero"`  // when the present step was reached; zero: not yet
	Waits  bool      `json:"waits,omitempty"` // for a person
	// Checks are those of the present step and those beside the steps.
	Checks []CheckStatus `json:"checks,omitempty"`

	// Of an update by zones, whose steps are the zones.
	Zone  string   `json:"zone,omitempty"`  // whose turn it is; empty: what is in no zone
	Zones int      `json:"zones,omitempty"` // how many have or get a turn
	Later int      `json:"later,omitempty"` // pods that are lacking and are left to other turns; less than 0: too many
	Done  []string `json:"done,omitempty"`  // that have had theirs, in the order of their names
}

// Token names the pause that the canary is at, so that a promotion ends this
// pause and no other.
func (c *CanaryStatus) Token() string { return c.Set + "/" + strconv.Itoa(c.Step) }

// RolloutPhase is where a deployment is.
type RolloutPhase string

// The phases of a rollout.
const (
	RolloutStable      RolloutPhase = "stable"      // all pods are of the wanted version and ready
	RolloutProgressing RolloutPhase = "progressing" // on its way
	RolloutPaused      RolloutPhase = "paused"      // by hand, or by on_failure = "pause"
	RolloutFailed      RolloutPhase = "failed"      // Reason says why; the revision controller decides what follows
)

// DeploymentStatus is the progress of a rollout, kept here and nowhere else, so
// that a new leader goes on in the middle of a step.
type DeploymentStatus struct {
	Phase     RolloutPhase  `json:"phase,omitempty"`
	Observed  uint64        `json:"observed,omitempty"`  // Meta.Version that this speaks of
	Set       string        `json:"set,omitempty"`       // replica set of the wanted version
	Proven    string        `json:"proven,omitempty"`    // of the newest version that was stable
	Previous  string        `json:"previous,omitempty"`  // of the last stable version before Set
	Sized     int           `json:"sized,omitempty"`     // replicas that the sets were last sized for
	Best      int           `json:"best,omitempty"`      // most available pods of the wanted version seen in this rollout
	Step      int           `json:"step,omitempty"`      // steps taken in this rollout
	Since     time.Time     `json:"since,omitzero"`      // of the rollout
	Progress  time.Time     `json:"progress,omitzero"`   // when it last came nearer to its end
	Updated   int           `json:"updated,omitempty"`   // pods of the wanted version
	Ready     int           `json:"ready,omitempty"`     // ready pods of any version
	Available int           `json:"available,omitempty"` // pods of any version ready for min_ready_time
	Lowest    int           `json:"lowest,omitempty"`    // lowest Ready seen in this rollout
	LowestAt  time.Time     `json:"lowest_at,omitzero"`  // when that was
	HeldSince time.Time     `json:"held_since,omitzero"` // since when its next step would break the promise of its plan
	HeldBy    string        `json:"held_by,omitempty"`   // the revision that made the promise
	Retries   int           `json:"retries,omitempty"`   // the spec's that this speaks of
	Retried   time.Time     `json:"retried,omitzero"`    // when Set was tried again, until it is stable
	Canary    *CanaryStatus `json:"canary,omitempty"`    // of a rollout by steps, until it has ended
	Reason    string        `json:"reason,omitempty"`    // a Reason… constant, or "progress_deadline"
	Message   string        `json:"message,omitempty"`
	LastLog   []string      `json:"last_log,omitempty"` // of the container that failed the rollout
}

// Deployment is a versioned set of pods.
type Deployment struct {
	Meta   `json:"meta"`
	Spec   DeploymentSpec   `json:"spec"`
	Status DeploymentStatus `json:"status,omitzero"`
}

func (o *Deployment) SpecPtr() any   { return &o.Spec }
func (o *Deployment) StatusPtr() any { return &o.Status }
func (o *Deployment) Clone() Object  { c := *o; return &c }
