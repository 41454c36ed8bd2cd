package object

import (
	"slices"
	"time"
)

// PodTemplate is what a pod runs. It is immutable: another template is another
// version of the workload. JSON carries it whole; pods in the state refer to it
// by digest (see Template).
type PodTemplate struct {
	Labels      map[string]string `json:"labels,omitempty" hcl:"labels" effect:"rolls" doc:"Labels of the pods; services select pods by them."`
	Annotations map[string]string `json:"annotations,omitempty" hcl:"annotations" effect:"rolls" doc:"Notes for people and tools; Berth does not read them."`
	Spread      []Spread          `json:"spread,omitempty" hcl:"spread,block" effect:"rolls" doc:"How to spread the pods of one set. Without any: over zones, then nodes."`
	Constraints []Constraint      `json:"constraints,omitempty" hcl:"constraint,block" effect:"rolls" doc:"Which nodes will do."`
	Avoid       []Avoid           `json:"avoid,omitempty" hcl:"avoid,block" effect:"rolls" doc:"Pods not to share a node or zone with (anti-affinity)."`
	Tolerations []Toleration      `json:"tolerations,omitempty" hcl:"tolerate,block" effect:"rolls" doc:"Taints of nodes that these pods put up with."`
	Grace       Duration          `json:"grace" hcl:"grace" default:"30s" effect:"rolls" doc:"Time between the stop signal and the kill."`
	Restart     string            `json:"restart" hcl:"restart" default:"always" enum:"always,on_failure,never" effect:"rolls" doc:"Which exits of a container start it again, with a growing delay of 1s to 5m."`
	Priority    int               `json:"priority,omitempty" hcl:"priority" effect:"rolls" doc:"Pods of a higher priority are placed first."`
	Credentials string            `json:"credentials,omitempty" hcl:"registry_secret" effect:"rolls" doc:"Name of the secret with the keys username and password for the image registry and, if only one registry of several is meant, registry: its host."`

	Init       []Container `json:"init,omitempty" hcl:"init,block" effect:"rolls" doc:"Containers that run to their end, in this order, before the others start."`
	Containers []Container `json:"containers" hcl:"container,block" effect:"rolls" doc:"Containers that share an address, localhost and volumes."`
	Volumes    []Volume    `json:"volumes,omitempty" hcl:"volume,block" effect:"rolls" doc:"Directories that containers mount."`

	// Reads pins the version of each config map and secret that the pods read:
	// "config_map/web" -> content digest. The deployment controller fills it in,
	// so that a new content is a new template; it is empty in configurations.
	Reads map[string]string `json:"reads,omitempty" hcl:"-" effect:"rolls" doc:"Versions of the config maps and secrets that are read."`
	// Images pins the content of each image that a tag names: "web:1" -> digest. The
	// plan found it out and its apply wrote it down; it is empty in configurations,
	// and for what nobody could find out.
	Images map[string]string `json:"images,omitempty" hcl:"-,settled" effect:"rolls" doc:"Contents that the tags of images stand for."`
}

// Spread asks for an even distribution of one set's pods.
type Spread struct {
	Over   string `json:"over" hcl:"over,required" doc:"A node attribute or label: node, zone, or any other."`
	Weight int    `json:"weight" hcl:"weight" default:"100" doc:"How much it counts against other wishes, 1 to 1000."`
}

// Constraint is a demand on, or a preference for, nodes.
type Constraint struct {
	Attribute string   `json:"attribute" hcl:"attribute,required" doc:"A label or attribute of the node: zone, arch, os, kernel, node, or any label."`
	Operator  string   `json:"operator" hcl:"operator" default:"=" enum:"=,!=,in,not_in,<,>,exists,not_exists,regexp,version" doc:"How the attribute is compared."`
	Value     string   `json:"value,omitempty" hcl:"value" doc:"What it is compared with."`
	Values    []string `json:"values,omitempty" hcl:"values" doc:"What it is compared with, for in and not_in."`
	Prefer    int      `json:"prefer,omitempty" hcl:"prefer" doc:"0: nodes that fail are out. 1 to 1000: nodes that pass get this many points."`
}

// Avoid keeps pods apart from the pods that carry the labels.
type Avoid struct {
	Labels map[string]string `json:"labels" hcl:"labels,required" doc:"Labels of the pods to keep away from, in the same namespace."`
	Over   string            `json:"over" hcl:"over" default:"node" enum:"node,zone" doc:"What not to share."`
	Prefer int               `json:"prefer,omitempty" hcl:"prefer" doc:"0: never share. 1 to 1000: lose this many points for each such pod."`
}

// Toleration lets a pod onto nodes with a taint.
type Toleration struct {
	Key    string `json:"key,omitempty" hcl:"key" doc:"The taint's key; empty tolerates every key."`
	Value  string `json:"value,omitempty" hcl:"value" doc:"The taint's value; empty tolerates every value."`
	Effect string `json:"effect,omitempty" hcl:"effect" enum:",no_schedule,prefer_no_schedule,no_execute" doc:"The taint's effect; empty tolerates every effect."`
}

// Tolerated reports whether one of the tolerations is of the taint.
func Tolerated(by []Toleration, t Taint) bool {
	return slices.ContainsFunc(by, func(x Toleration) bool {
		return (x.Key == "" || x.Key == t.Key) && (x.Value == "" || x.Value == t.Value) && (x.Effect == "" || x.Effect == t.Effect)
	})
}

// Container is one process tree of a pod.
type Container struct {
	Name       string          `json:"name" hcl:"name,label" doc:"Name within the pod."`
	Image      string          `json:"image" hcl:"image,required" doc:"Image reference. The plan pins what its tag stands for; a digest in it does, too."`
	Pull       string          `json:"pull" hcl:"pull" default:"missing" enum:"missing,always,never" doc:"When a node asks the registry: missing: when it does not have the image; always: for each new pod, and a plan that makes the pods another version asks it what the tag stands for; never."`
	Command    []string        `json:"command,omitempty" hcl:"command" doc:"Replaces the image's entry point."`
	Args       []string        `json:"args,omitempty" hcl:"args" doc:"Replaces the image's arguments."`
	WorkDir    string          `json:"work_dir,omitempty" hcl:"work_dir" doc:"Working directory; default the image's."`
	Env        map[string]Text `json:"env,omitempty" hcl:"env" doc:"Environment. Values may refer to secret.NAME.data.KEY; only the node ever puts the secret in."`
	EnvFrom    []EnvFrom       `json:"env_from,omitempty" hcl:"env_from,block" doc:"Whole config maps or secrets as environment."`
	Ports      []ContainerPort `json:"ports,omitempty" hcl:"port,block" doc:"Ports that the container listens on."`
	Resources  Resources       `json:"resources,omitzero" hcl:"resources,block" doc:"What it asks for and may use at most."`
	Mounts     []Mount         `json:"mounts,omitempty" hcl:"mount,block" doc:"Volumes it sees."`
	Readiness  *Probe          `json:"readiness,omitempty" hcl:"readiness,block" doc:"Traffic is sent only while it succeeds."`
	Liveness   *Probe          `json:"liveness,omitempty" hcl:"liveness,block" doc:"The container is restarted when it fails."`
	Startup    *Probe          `json:"startup,omitempty" hcl:"startup,block" doc:"The other probes wait until it has succeeded once."`
	StopSignal string          `json:"stop_signal" hcl:"stop_signal" default:"SIGTERM" doc:"Signal that asks it to end."`
	// ReloadSignal is left out when it is not given, so that no older template is another one.
	ReloadSignal string       `json:"reload_signal,omitempty" hcl:"reload_signal" doc:"Signal that it gets when a file that it mounts has a new content, of a config map or secret with reload = \"signal\"; default: SIGHUP."`
	User         string       `json:"user,omitempty" hcl:"user" doc:"uid, uid:gid or a user name of the image; default the image's."`
	ReadOnly     bool         `json:"read_only_root,omitempty" hcl:"read_only_root" doc:"Mount the root file system read-only."`
	Privileged   bool         `json:"privileged,omitempty" hcl:"privileged" doc:"All capabilities and devices of the node."`
	Caps         Capabilities `json:"capabilities,omitzero" hcl:"capabilities,block" doc:"Linux capabilities beside the default set."`
	Seccomp      string       `json:"seccomp" hcl:"seccomp" default:"default" enum:"default,unconfined" doc:"System call filter."`
}

// EnvFrom turns a whole config map or secret into environment variables.
type EnvFrom struct {
	ConfigMap string `json:"config_map,omitempty" hcl:"config_map" doc:"Name of the config map."`
	Secret    string `json:"secret,omitempty" hcl:"secret" doc:"Name of the secret."`
	Prefix    string `json:"prefix,omitempty" hcl:"prefix" doc:"Put before each key."`
}

// ContainerPort is a port a container listens on.
type ContainerPort struct {
	Name     string `json:"name" hcl:"name,label" doc:"Name that services and probes use."`
	Port     int    `json:"port" hcl:"port,required" doc:"Number, 1 to 65535."`
	Protocol string `json:"protocol" hcl:"protocol" default:"tcp" enum:"tcp,udp,sctp" doc:"Transport."`
	HostPort int    `json:"host_port,omitempty" hcl:"host_port" doc:"Also claim this port of the node; one pod per node can."`
}

// Resources are what a container asks for, by which it is placed, and its limits.
type Resources struct {
	CPU    CPU    `json:"cpu,omitempty" hcl:"cpu" doc:"Processor time asked for: \"250m\" or 1.5."`
	Memory Bytes  `json:"memory,omitempty" hcl:"memory" doc:"Memory asked for: \"64Mi\"."`
	Limits Limits `json:"limits,omitzero" hcl:"limits,block" doc:"The most it may use; 0 means no limit."`
}

// Limits are enforced by the kernel.
type Limits struct {
	CPU    CPU   `json:"cpu,omitempty" hcl:"cpu" doc:"Slowed down above this."`
	Memory Bytes `json:"memory,omitempty" hcl:"memory" doc:"Killed above this."`
	PIDs   int   `json:"pids,omitempty" hcl:"pids" doc:"Processes and threads."`
}

// Capabilities are named without CAP_, as in "NET_ADMIN".
type Capabilities struct {
	Add  []string `json:"add,omitempty" hcl:"add" doc:"Given on top of the default set."`
	Drop []string `json:"drop,omitempty" hcl:"drop" doc:"Taken from the default set; \"ALL\" takes all."`
}

// Mount shows a volume in a container.
type Mount struct {
	Volume   string `json:"volume" hcl:"volume,label" doc:"Name of the pod's volume."`
	Path     string `json:"path" hcl:"path,required" doc:"Where the container sees it."`
	ReadOnly bool   `json:"read_only,omitempty" hcl:"read_only" doc:"Refuse writes. Config maps and secrets always do."`
	File     string `json:"file,omitempty" hcl:"file" doc:"Only this file of the volume, at path."`
}

// Volume is a directory that lives as long as its pod. Exactly one source is set.
type Volume struct {
	Name      string    `json:"name" hcl:"name,label" doc:"Name that mounts use."`
	ConfigMap string    `json:"config_map,omitempty" hcl:"config_map" doc:"The keys of a config map as files."`
	Secret    string    `json:"secret,omitempty" hcl:"secret" doc:"The keys of a secret as files, in memory."`
	EmptyDir  *EmptyDir `json:"empty_dir,omitempty" hcl:"empty_dir,block" doc:"An empty directory."`
	HostPath  string    `json:"host_path,omitempty" hcl:"host_path" doc:"A path of the node."`
}

// EmptyDir is scratch space.
type EmptyDir struct {
	Size   Bytes `json:"size,omitempty" hcl:"size" doc:"Limit; enforced when it is in memory."`
	Memory bool  `json:"memory,omitempty" hcl:"memory" doc:"Keep it in memory (tmpfs)."`
}

// Probe asks a container how it is. Exactly one of HTTP, TCP, Exec is set.
type Probe struct {
	HTTP    *HTTPProbe `json:"http,omitempty" hcl:"http,block" doc:"Any answer from 200 to 399 is a success."`
	TCP     *TCPProbe  `json:"tcp,omitempty" hcl:"tcp,block" doc:"A connection is a success."`
	Exec    *ExecProbe `json:"exec,omitempty" hcl:"exec,block" doc:"Exit code 0 is a success."`
	Delay   Duration   `json:"delay,omitempty" hcl:"delay" doc:"Wait after the start before the first try."`
	Period  Duration   `json:"period" hcl:"period" default:"5s" doc:"Time between tries, 100ms at least."`
	Timeout Duration   `json:"timeout" hcl:"timeout" default:"1s" doc:"A try that takes longer has failed."`
	Success int        `json:"success" hcl:"success" default:"1" doc:"Successes in a row that make it good."`
	Failure int        `json:"failure" hcl:"failure" default:"3" doc:"Failures in a row that make it bad."`
}

// ShortestPeriod is how often a probe may try: more would be a load of its own.
const ShortestPeriod = Duration(100 * time.Millisecond)

// HTTPProbe is a GET request.
type HTTPProbe struct {
	Path    string            `json:"path" hcl:"path" default:"/" doc:"Path and query."`
	Port    PortRef           `json:"port" hcl:"port,required" doc:"Port by name or number."`
	Scheme  string            `json:"scheme" hcl:"scheme" default:"http" enum:"http,https" doc:"https does not verify the certificate."`
	Headers map[string]string `json:"headers,omitempty" hcl:"headers" doc:"Request headers."`
}

// TCPProbe opens a connection.
type TCPProbe struct {
	Port PortRef `json:"port" hcl:"port,required" doc:"Port by name or number."`
}

// ExecProbe runs a command in the container.
type ExecProbe struct {
	Command []string `json:"command" hcl:"command,required" doc:"Program and arguments; no shell."`
}

// Asks is the sum of what the pod's containers ask for; init containers run one
// at a time before the others, so the pod asks for the larger of the largest
// init container and the sum of the others.
func (t *PodTemplate) Asks() (cpu CPU, memory Bytes) {
	for _, c := range t.Containers {
		cpu += c.Resources.CPU
		memory += c.Resources.Memory
	}
	for _, c := range t.Init {
		cpu, memory = max(cpu, c.Resources.CPU), max(memory, c.Resources.Memory)
	}
	return cpu, memory
}

// PodSpec is a pod's row: which template, which number of which set, which node.
type PodSpec struct {
	// Pod is the template in full. Declared pods have it in configurations and
	// in the API's answers; in the state it is nil and Template refers to it.
	Pod      *PodTemplate `json:"pod,omitempty" hcl:",remain" effect:"replaces"`
	Template string       `json:"template,omitempty" hcl:"-"` // name of the Template in the pod's namespace
	// Reads are the contents that the running pod was given in place of those that
	// its template pins (see PodTemplate.Reads), by reload = "signal".
	Reads   map[string]string `json:"reads,omitempty" hcl:"-"`
	Ordinal int               `json:"ordinal,omitempty" hcl:"-"` // number within its set
	Node    string            `json:"node,omitempty" hcl:"-"`    // where it is bound; written once by the scheduler
	// Elsewhere is why the scheduler did not take the node that its plan had for it.
	Elsewhere string `json:"elsewhere,omitempty" hcl:"-"`
	// Within are the only nodes that will do for it; it says nothing once Node is set.
	Within *Within `json:"within,omitempty" hcl:"-"`
	// CPU and Memory are what the template asks for, copied by whoever creates the
	// pod, so that rows can be counted without their template.
	CPU    CPU   `json:"cpu,omitempty" hcl:"-"`
	Memory Bytes `json:"memory,omitempty" hcl:"-"`
	// Stop asks the node to end the pod gracefully; when it has, the status says
	// PodStopped and the row is deleted. StopWhy is for people.
	Stop    bool   `json:"stop,omitempty" hcl:"-"`
	StopWhy string `json:"stop_why,omitempty" hcl:"-"`
	// Move has the pod's set start another elsewhere, and stop this one when that works.
	Move bool `json:"move,omitempty" hcl:"-"`
}

// PodPhase is where a pod is in its life.
type PodPhase string

// The phases, in the order of a life.
const (
	PodPending   PodPhase = "pending"   // not bound, or bound and not yet seen by its node
	PodStarting  PodPhase = "starting"  // images, sandbox, init containers
	PodRunning   PodPhase = "running"   // every container has been started
	PodStopping  PodPhase = "stopping"  // the stop signal was sent
	PodStopped   PodPhase = "stopped"   // ended because it, or its node, was asked to
	PodSucceeded PodPhase = "succeeded" // every container ended with 0 and will not be restarted
	PodFailed    PodPhase = "failed"    // some container failed and will not be restarted
	PodLost      PodPhase = "lost"      // its node has been silent too long
)

// Reasons that a controller acts upon. Others are for people only.
const (
	ReasonUnplaceable   = "unplaceable"     // fits on no node
	ReasonQuota         = "quota"           // its namespace may have no more
	ReasonAborted       = "aborted"         // a person gave the version up
	ReasonImagePull     = "image_pull"      // the image cannot be had (back-off)
	ReasonImageNotFound = "image_not_found" // the registry says there is no such image
	ReasonCrashLoop     = "crash_loop"      // a container keeps ending
	ReasonOOM           = "oom_killed"      // over its memory limit
	ReasonConfig        = "config"          // a config map, secret, key or volume is missing or wrong
	ReasonCompleted     = "completed"       // a container ended with 0
	ReasonNodeLost      = "node_lost"
	ReasonNodeResources = "node_resources" // disk full and the like
)

// PodStatus is what a node reports of a pod; of pods without a node, what the
// scheduler says.
type PodStatus struct {
	Phase      PodPhase          `json:"phase,omitempty"`
	Ready      bool              `json:"ready,omitempty"`
	ReadySince time.Time         `json:"ready_since,omitzero"`
	Address    string            `json:"address,omitempty"`
	Started    time.Time         `json:"started,omitzero"`
	Reason     string            `json:"reason,omitempty"`  // a Reason… constant or another word
	Message    string            `json:"message,omitempty"` // a sentence for people
	Since      time.Time         `json:"since,omitzero"`    // of Phase and Reason
	Containers []ContainerStatus `json:"containers,omitempty"`
}

// ContainerStatus is one container's part of a pod's status.
type ContainerStatus struct {
	Name     string    `json:"name"`
	State    string    `json:"state,omitempty"` // waiting, running, exited
	ID       string    `json:"id,omitempty"`
	Image    string    `json:"image,omitempty"` // with the digest that runs
	Ready    bool      `json:"ready,omitempty"`
	Restarts int       `json:"restarts,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	ExitCode int       `json:"exit_code,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
	LastLog  []string  `json:"last_log,omitempty"` // the last lines before a failure
}

// Pod is one instance of a template.
type Pod struct {
	Meta   `json:"meta"`
	Spec   PodSpec   `json:"spec"`
	Status PodStatus `json:"status,omitzero"`
}

func (o *Pod) SpecPtr() any   { return &o.Spec }
func (o *Pod) StatusPtr() any { return &o.Status }
func (o *Pod) Clone() Object  { c := *o; return &c }

// Terminal reports whether the pod has ended and will not run again.
func (o *Pod) Terminal() bool {
	return slices.Contains([]PodPhase{PodStopped, PodSucceeded, PodFailed, PodLost}, o.Status.Phase)
}

// Returns reports whether a pod that does not run now runs again when its node
// comes back: one that no set replaces elsewhere, and that ended only because its
// node was lost or stopped. It keeps its room there.
func (o *Pod) Returns() bool {
	return o.Owner.IsZero() && o.Spec.Node != "" && !o.Spec.Stop && (o.Status.Phase == PodLost || o.Status.Phase == PodStopped)
}

// ForCheck reports whether the pod is a run of a deployment's check: it is none of
// the deployment's own, which belong to its replica sets.
func (o *Pod) ForCheck() bool { return o.Owner.Kind == KindDeployment }

// Failing reports whether the pod cannot come up by waiting for it a little
// longer, and why: what makes a rollout give up before its deadline.
func (o *Pod) Failing() (reason string, failing bool) {
	switch o.Status.Reason {
	case ReasonUnplaceable, ReasonImageNotFound, ReasonCrashLoop, ReasonConfig:
		return o.Status.Reason, true
	}
	return o.Status.Reason, o.Status.Phase == PodFailed
}

// Template is a PodTemplate stored once, under the digest of its encoding.
type Template struct {
	Meta `json:"meta"`
	Spec PodTemplate `json:"spec"`
}

func (o *Template) SpecPtr() any   { return &o.Spec }
func (o *Template) StatusPtr() any { return nil }
func (o *Template) Clone() Object  { c := *o; return &c }
