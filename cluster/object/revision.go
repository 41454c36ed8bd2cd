package object

import (
	"strconv"
	"time"
)

// RevisionName is the name of a stack's nth revision.
func RevisionName(stack string, n int) string { return stack + "-" + strconv.Itoa(n) }

// Source tells where a configuration came from.
type Source struct {
	Directory string `json:"directory,omitempty"`
	Digest    string `json:"digest,omitempty"` // of the files and variables, secrets left out
	Commit    string `json:"commit,omitempty"` // of git, "-dirty" appended where it was
}

// RevisionChange is one change of a revision, in whole objects, so that it can
// be carried out late and put back. Status and versions inside are meaningless.
type RevisionChange struct {
	Op  Op  `json:"op"`
	Ref Ref `json:"ref"`
	// Address is the object's in its configuration, where that is not the Ref's:
	// deployment.web["a"] is deployment/web-a.
	Address string `json:"address,omitempty"`
	Wave    int    `json:"wave"` // 1 is the first
	// From of a create is the object that gets this name with all that it owns; its
	// delete, in the same wave, has the new name as To.
	From Ref `json:"moved_from,omitzero"`
	To   Ref `json:"moved_to,omitzero"`
	// Owns says that only the name or the stack of the object changes.
	Owns   bool `json:"owns,omitempty"`
	Before Any  `json:"before,omitzero"`
	After  Any  `json:"after,omitzero"`
}

// Title is what people know the object by.
func (c *RevisionChange) Title() string {
	if c.Address != "" {
		return c.Address
	}
	return c.Ref.Address()
}

// RevisionSpec is what was committed: the whole intent in one entry.
type RevisionSpec struct {
	Stack      string            `json:"stack"`
	Number     int               `json:"number"`
	Parent     int               `json:"parent,omitempty"` // revision in force when this one was planned
	Cause      string            `json:"cause"`            // apply, destroy, revert, rollback, undo, restore
	Target     int               `json:"target,omitempty"` // of revert, rollback and restore: the number gone back to
	Author     string            `json:"author,omitempty"`
	Attempt    string            `json:"attempt,omitempty"` // of the request that made it, to know that again
	Time       time.Time         `json:"time,omitzero"`
	Source     Source            `json:"source,omitzero"`
	Changes    []RevisionChange  `json:"changes,omitempty"`
	Waves      int               `json:"waves,omitempty"`
	Placements map[string]string `json:"placements,omitempty"` // "namespace/pod" -> node, as the forecast had it
	Promise    []Availability    `json:"promise,omitempty"`    // lowest readiness, as the forecast had it
	Duration   Duration          `json:"duration,omitempty"`   // as the forecast had it
	OnFailure  string            `json:"on_failure,omitempty"` // revert (default) or pause
	Outputs    map[string]Output `json:"outputs,omitempty"`
	Images     map[string]string `json:"images,omitempty"` // what the tags stood for, as far as the plan knew
	// Override is why soft policies were set aside, and Overridden which rules.
	Override   string   `json:"policy_override,omitempty"`
	Overridden []string `json:"policy_overridden,omitempty"`
	// Thaw is why freezes were set aside, and Thawed which ones.
	Thaw   string   `json:"freeze_override,omitempty"`
	Thawed []string `json:"freeze_overridden,omitempty"`
}

// RevisionPhase is how far a revision has come.
type RevisionPhase string

// The phases of a revision. Healthy, Reverted, Failed and Superseded are final.
const (
	RevisionRunning    RevisionPhase = "running"
	RevisionHealthy    RevisionPhase = "healthy"
	RevisionPaused     RevisionPhase = "paused"     // failed, and on_failure = "pause"
	RevisionReverting  RevisionPhase = "reverting"  // failed; RevertedBy puts it back
	RevisionReverted   RevisionPhase = "reverted"   // failed and put back
	RevisionFailed     RevisionPhase = "failed"     // failed and could not be put back
	RevisionSuperseded RevisionPhase = "superseded" // a later apply took over
)

// Final reports whether the revision will not change any more.
func (p RevisionPhase) Final() bool {
	return p == RevisionHealthy || p == RevisionReverted || p == RevisionFailed || p == RevisionSuperseded
}

// RevisionStatus is its progress.
type RevisionStatus struct {
	Phase      RevisionPhase `json:"phase,omitempty"`
	Wave       int           `json:"wave,omitempty"`   // the wave that is open
	Since      time.Time     `json:"since,omitzero"`   // when it was opened
	Ended      time.Time     `json:"ended,omitzero"`   // when Phase became final
	Opened     []Ref         `json:"opened,omitempty"` // changes carried out so far
	Object     Ref           `json:"object,omitzero"`  // the object that failed it
	Reason     string        `json:"reason,omitempty"`
	Message    string        `json:"message,omitempty"`
	LastLog    []string      `json:"last_log,omitempty"`
	RevertedBy int           `json:"reverted_by,omitempty"`
	// Kept, Deviations and Lowest say how true the plan was: pods that went where
	// they were planned, and elsewhere; and the lowest readiness that was seen of each
	// workload of which the plan promised one, ordered by workload.
	Deviations []Deviation    `json:"deviations,omitempty"`
	Kept       int            `json:"kept,omitempty"`
	Lowest     []Availability `json:"lowest,omitempty"`
}

// Deviation is a pod that went elsewhere than planned.
type Deviation struct {
	Pod     string `json:"pod"`
	Planned string `json:"planned"`
	Actual  string `json:"actual"`
	Why     string `json:"why,omitempty"`
}

// Revision is one apply of a stack.
type Revision struct {
	Meta   `json:"meta"`
	Spec   RevisionSpec   `json:"spec"`
	Status RevisionStatus `json:"status,omitzero"`
}

func (o *Revision) SpecPtr() any   { return &o.Spec }
func (o *Revision) StatusPtr() any { return &o.Status }
func (o *Revision) Clone() Object  { c := *o; return &c }

// Output is a value that a configuration shows.
type Output struct {
	Value       any    `json:"value,omitempty"` // JSON value; nil where Sensitive
	Sensitive   bool   `json:"sensitive"`
	Description string `json:"description,omitempty"`
}

// StackSpec is a configuration directory as the masters know it.
type StackSpec struct {
	Revision int               `json:"revision"` // number of the newest revision
	Outputs  map[string]Output `json:"outputs,omitempty"`
	Deleted  []Drift           `json:"deleted,omitempty"` // objects that people ended past the stack and that it has not made anew
}

// StackStatus is the number to go back to, and what no revision carries.
type StackStatus struct {
	Healthy int `json:"healthy,omitempty"` // newest revision that became healthy
	// Placements are where the plan of the latest operation (a drain, a restart) had
	// the stack's pods, as those of a revision are; they are used until PlacedUntil
	// and while no revision is running.
	Placements  map[string]string `json:"placements,omitempty"`
	PlacedUntil time.Time         `json:"placed_until,omitzero"`
}

// Stack is one configuration directory.
type Stack struct {
	Meta   `json:"meta"`
	Spec   StackSpec   `json:"spec"`
	Status StackStatus `json:"status,omitzero"`
}

func (o *Stack) SpecPtr() any   { return &o.Spec }
func (o *Stack) StatusPtr() any { return &o.Status }
func (o *Stack) Clone() Object  { c := *o; return &c }

// EventName is the name of the event that tells of an object this reason and
// message.
func EventName(about Ref, reason, message string) string {
	return about.Name + "." + Digest([]string{about.String(), reason, message})
}

// EventNamespace is where events about an object stand: in its namespace, or in
// the default one for kinds without.
func EventNamespace(about Ref) string {
	if about.Namespace != "" {
		return about.Namespace
	}
	return DefaultNamespace
}

// EventSpec is something that happened. Repetitions raise Count.
type EventSpec struct {
	About   Ref       `json:"about"`
	Level   string    `json:"level"` // info, warning
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Source  string    `json:"source,omitempty"` // controller, scheduler, node/NAME
	Count   int       `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// Event is something that happened. Its name is EventName of what it is about,
// so that the same thing happening again is the same object.
type Event struct {
	Meta `json:"meta"`
	Spec EventSpec `json:"spec"`
}

func (o *Event) SpecPtr() any   { return &o.Spec }
func (o *Event) StatusPtr() any { return nil }
func (o *Event) Clone() Object  { c := *o; return &c }

// Role is what a token or certificate entitles to.
type Role string

// The roles.
const (
	RoleAdmin   Role = "admin"   // everything
	RolePlanner Role = "planner" // read and plan; no secret data, no writes
	RoleNode    Role = "node"    // its own pods and what they need
	RoleMaster  Role = "master"  // a peer
)

// TokenSpec is a token's record. The secret part is never stored.
type TokenSpec struct {
	Role    Role      `json:"role"`
	Digest  string    `json:"digest"` // SHA-256 of the secret part, hex
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses,omitempty"` // joins left; 0 means any number until it expires, -1 none
	Name    string    `json:"name,omitempty"` // the only name that may join by it; empty: any
	Comment string    `json:"comment,omitempty"`
	// Joined are the masters that joined by it: they may become members. Of whoever
	// is removed it is taken out again.
	Joined []string `json:"joined,omitempty"`
	// Labels are for the nodes that join by it; Nodes are those that have joined and
	// get them with their first report.
	Labels map[string]string `json:"labels,omitempty"`
	Nodes  []string          `json:"nodes,omitempty"`
}

// Asks reports whether requests can be made with the token: others are for joining.
func (t *TokenSpec) Asks() bool {
	return t.Uses == 0 && (t.Role == RoleAdmin || t.Role == RolePlanner)
}

// TokenKept is how long an expired token is kept, so that its bearer is told that
// it has expired and not that it never was.
const TokenKept = 7 * 24 * time.Hour

// Token lets a master, a node or a client join.
type Token struct {
	Meta `json:"meta"`
	Spec TokenSpec `json:"spec"`
}

func (o *Token) SpecPtr() any   { return &o.Spec }
func (o *Token) StatusPtr() any { return nil }
func (o *Token) Clone() Object  { c := *o; return &c }
