package container

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Runtime runs containers on one machine. It is what package runtime offers and
// what the conformance suite (runtimetest) demands; an agent declares the part
// it needs. All methods may be called at once, honour their context, and are
// idempotent where it makes sense: starting what runs, stopping what has
// stopped and removing what is gone succeed.
type Runtime interface {
	PullImage(ctx context.Context, ref string, auth *Auth, policy string) (Image, error)
	ImportImage(ctx context.Context, archive io.Reader) ([]string, error)
	ListImages(ctx context.Context) ([]Image, error)
	StartContainer(ctx context.Context, s Spec) (Started, error)
	Stop(ctx context.Context, id, signal string, grace time.Duration) error
	Signal(ctx context.Context, id, signal string) error
	Remove(ctx context.Context, id string) error
	RemovePod(ctx context.Context, p Pod) error
	Exec(ctx context.Context, id string, argv []string, timeout time.Duration) (ExecResult, error)
	List(ctx context.Context) ([]Status, error)
	Stats(ctx context.Context, id string) (Stats, error)
	Logs(ctx context.Context, q LogQuery) iter.Seq2[LogLine, error]
	Events() <-chan Event
	Health() error
}

// Pod names one life of a pod. Created is the index of its creation, which tells
// two pods of one name apart.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Created   uint64 `json:"created"`
}

// String is "namespace/name".
func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Namespaces are the files that a pod's namespaces are pinned to, in which its
// containers run. An empty path gives the container a namespace of its own.
type Namespaces struct {
	Net string `json:"net,omitempty"`
	IPC string `json:"ipc,omitempty"`
	UTS string `json:"uts,omitempty"`
}

// Spec is everything about one container; nothing in it is looked up elsewhere.
type Spec struct {
	Pod     Pod
	Name    string // within the pod
	Attempt int    // 0 the first time, then counted up by the agent at every restart

	Image      string // reference, as PullImage was given it; must have been pulled or imported
	Namespaces Namespaces
	Hostname   string // set only if Namespaces.UTS is empty; else the namespace has it

	Command []string // replaces the image's entry point, and then its arguments too
	Args    []string // replaces the image's arguments
	Env     []string // "KEY=value", resolved; wins over the image's
	WorkDir string   // default the image's, then "/"
	User    string   // uid, uid:gid, user or user:group of the image's /etc/passwd; default the image's

	Mounts       []Mount
	Resources    Resources
	ReadOnlyRoot bool
	Privileged   bool     // every capability and device of the node, no seccomp filter
	CapAdd       []string // without CAP_; "ALL"
	CapDrop      []string // without CAP_; "ALL"
	Unconfined   bool     // no seccomp filter
	// StopSignal is what Stop sends when it is not told another; default the
	// image's, then SIGTERM.
	StopSignal string
}

// Mount shows a file or directory of the node, or memory, inside a container.
type Mount struct {
	Source   string // path of the node; it must exist. Empty for Tmpfs.
	Target   string // absolute path inside the container
	ReadOnly bool
	Tmpfs    bool  // memory instead of Source, lost with the container
	Size     int64 // bytes, of Tmpfs; 0 is the kernel's default
	Mode     uint32
}

// Resources are what a container asks for and the most it gets. Zero means
// nothing asked, no limit. CPU is in thousandths of a core, memory in bytes.
type Resources struct {
	CPU, CPULimit       int64
	Memory, MemoryLimit int64
	PIDsLimit           int64
}

// Started is a container that runs.
type Started struct {
	ID     string
	PID    int    // of its first process, as the node sees it
	Image  string // reference with the digest that runs
	Digest string // of the image
	// Notes are wishes that the kernel or the machine refused and that were
	// reduced instead of failing, one sentence each.
	Notes []string
}

// State is what a container does.
type State string

// The states.
const (
	Created State = "created" // made but not started, as after a crash half-way; remove it
	Running State = "running"
	Exited  State = "exited"
)

// Status is one container that the runtime holds, running or not.
type Status struct {
	ID       string
	Pod      Pod
	Name     string
	Attempt  int
	Image    string
	State    State
	PID      int // while it runs
	Started  time.Time
	Finished time.Time // when it has exited
	ExitCode int       // when it has exited; 128+n after signal n; -1 if nobody saw it
	OOM      bool      // it exited because it was over its memory limit
}

// Event tells that a container ended. Events come for ends after the runtime was
// opened; ends before that are in List. None is dropped.
type Event struct {
	ID       string
	Pod      Pod
	Name     string
	Attempt  int
	ExitCode int // 128+n after signal n; -1 if nobody saw it
	OOM      bool
	Time     time.Time
}

// ExecResult is how a command in a container ended.
type ExecResult struct {
	ExitCode int
	Stdout   []byte // the first 64 KiB
	Stderr   []byte // the first 64 KiB
}

// Stats are counters of a running container.
type Stats struct {
	CPU    time.Duration // processor time used since its start
	Memory int64         // bytes in use, without the page cache that can be given back
	PIDs   int64
	OOMs   int64 // processes killed for memory
}

// Auth are credentials for the registry of an image.
type Auth struct {
	Username string
	Password string
	Registry string // the only host that is shown them, as image references write it; empty: each image's own
}

// For are the credentials that a registry's host is shown, empty if none.
func (a *Auth) For(host string) (username, password string) {
	if a == nil || a.Registry != "" && !strings.EqualFold(a.Registry, host) {
		return "", ""
	}
	return a.Username, a.Password
}

// When PullImage asks the registry.
const (
	PullMissing = "missing" // only if the image is not on the node
	PullAlways  = "always"
	PullNever   = "never"
)

// Image is an image on the node.
type Image struct {
	Name   string    // full reference: registry/repository:tag or @digest
	Digest string    // of its manifest or index: sha256:…
	Size   int64     // compressed bytes on the node; 0 from PullImage
	Used   time.Time // last time a container was started from it, or it came; to the hour
	Pulled bool      // from PullImage: a registry has just given it
}

// LogLine is one line that a container wrote.
type LogLine struct {
	Time    time.Time
	Stream  string // stdout or stderr
	Partial bool   // the line goes on in the next record of the same stream
	Text    string // without the newline
}

// LogQuery chooses lines of one container.
type LogQuery struct {
	Pod       Pod
	Container string
	Previous  bool      // of the attempt before the newest
	Follow    bool      // wait for more until the container has ended
	Tail      int       // only the last so many records; 0 is all, negative none (with Follow: only new ones)
	Since     time.Time // only records from then on
}

// ImageFault is why an image cannot be had.
type ImageFault string

// The faults.
const (
	ImageNotFound     ImageFault = "not_found"    // the registry says there is no such image
	ImageUnauthorized ImageFault = "unauthorized" // the registry wants other credentials
	ImageUnreachable  ImageFault = "unreachable"  // no answer, or a failing registry: try again
	ImageAbsent       ImageFault = "absent"       // not on this node, and asking a registry was not allowed
	ImageInvalid      ImageFault = "invalid"      // not a reference, or its content is unusable here
	ImageNoSpace      ImageFault = "no_space"     // the node's disk is full
)

// ImageError says why an image cannot be had and what to do about it.
type ImageError struct {
	Ref   string
	Fault ImageFault
	Hint  string
	Err   error
}

// Error is what is wrong; Hint is the cure.
func (e *ImageError) Error() string {
	s := map[ImageFault]string{
		ImageNotFound: "not found in its registry", ImageUnauthorized: "the registry refuses access",
		ImageUnreachable: "the registry cannot be used", ImageAbsent: "not on this node", ImageInvalid: "cannot be used",
		ImageNoSpace: "there is no room for it on this node's disk",
	}[e.Fault]
	if e.Err == nil {
		return fmt.Sprintf("image %s: %s", e.Ref, s)
	}
	return fmt.Sprintf("image %s: %s: %v", e.Ref, s, e.Err)
}

// Unwrap gives the cause.
func (e *ImageError) Unwrap() error { return e.Err }

// NotFoundError tells that the runtime holds no such container, or no such log.
type NotFoundError struct{ What string }

// Error names what is missing.
func (e *NotFoundError) Error() string { return e.What + " does not exist on this node" }

// UnavailableError tells that containerd is missing or does not answer. Running
// containers are not affected; the call may be made again.
type UnavailableError struct {
	Message string
	Hint    string
	Err     error
}

// Error is what is wrong and the cure.
func (e *UnavailableError) Error() string {
	s := e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap gives the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }
