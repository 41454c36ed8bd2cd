package agent

import (
	"context"
	"io"
	"iter"
	"net/netip"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/runtime/container"
)

// Runtime runs containers; package runtime implements it on containerd. All
// methods may be called at once, honour their context and are idempotent:
// starting what runs, stopping what has stopped and removing what is gone
// succeed. Containers live on when the process ends.
type Runtime interface {
	// PullImage makes an image be there: of a reference with a digest that content and
	// no other, by whatever name the node has it already. Failures are
	// *container.ImageError.
	PullImage(ctx context.Context, ref string, auth *container.Auth, policy string) (container.Image, error)
	// ImportImage reads an OCI or docker archive and answers the names in it.
	ImportImage(ctx context.Context, archive io.Reader) ([]string, error)
	ListImages(ctx context.Context) ([]container.Image, error)
	// StartContainer makes and starts one attempt of a container.
	StartContainer(ctx context.Context, s container.Spec) (container.Started, error)
	// Stop sends the signal, waits, kills after the grace, and returns when the
	// container has ended.
	Stop(ctx context.Context, id, signal string, grace time.Duration) error
	// Signal sends a running container's first process a signal, which does not end
	// one that has no handler for it; to one that has ended it sends none.
	Signal(ctx context.Context, id, signal string) error
	// Remove deletes an ended container; its log stays until RemovePod.
	Remove(ctx context.Context, id string) error
	// RemovePod kills and deletes the pod's containers and its logs.
	RemovePod(ctx context.Context, p container.Pod) error
	Exec(ctx context.Context, id string, argv []string, timeout time.Duration) (container.ExecResult, error)
	// List is every container held, running or ended.
	List(ctx context.Context) ([]container.Status, error)
	Logs(ctx context.Context, q container.LogQuery) iter.Seq2[container.LogLine, error]
	// Events delivers the end of every container once; the agent is its only reader.
	Events() <-chan container.Event
	// Health is nil while containers can be started.
	Health() error
}

// Sandboxes keeps the namespaces that a pod's containers share. Methods may be
// called at once for different pods.
type Sandboxes interface {
	// Create makes and pins the namespaces and sets the host name; those that are
	// there already are kept. The one container of a pod that shares nothing may
	// be left to get all but its network by itself.
	Create(pod, hostname string, shares bool) (container.Namespaces, error)
	// Remove unpins them; the kernel ends them with their last process.
	Remove(pod string) error
	// Pods lists who has namespaces.
	Pods() ([]string, error)
}

// Network gives pods their addresses. Methods may be called at once.
type Network interface {
	// Attach connects the network namespace at the path; a pod that is attached
	// keeps its address.
	Attach(pod, namespace string) (netip.Addr, error)
	// Address is what Attach answered, also after a restart of the process.
	Address(pod string) (netip.Addr, bool)
	// Detach gives the address back; the interfaces go with the namespace.
	Detach(pod string) error
	// Retain gives back everything of pods that are not listed.
	Retain(pods []string) error
	// Purge removes everything that the network ever made on this machine.
	Purge() error
}

// Volumes makes the directories that containers mount. Methods may be called at
// once for different pods.
type Volumes interface {
	// Prepare makes the volumes and answers the path of each; files are the
	// contents of config map and secret volumes by volume name. CodeInvalid means
	// that trying again is of no use.
	Prepare(pod string, volumes []object.Volume, files map[string]map[string]string) (map[string]string, error)
	// Replace puts new contents into the config map and secret volumes of a running
	// pod. fixed names, by volume, the files that are mounted one by one: a mount
	// holds on to the file that it was made of, so these are written in place.
	Replace(pod string, volumes []object.Volume, files map[string]map[string]string, fixed map[string][]string) error
	// Paths is what Prepare answered, if all of it is still there.
	Paths(pod string, volumes []object.Volume) (map[string]string, bool)
	Remove(pod string) error
	// Pods lists who has volumes.
	Pods() ([]string, error)
	Purge() error
}

// Prober repeats a probe until ctx ends and calls verdict, from one goroutine,
// when enough successes or failures in a row have changed it. The ports of the
// probe are numbers. exec runs a command in the container.
type Prober interface {
	Watch(ctx context.Context, key, address string, p object.Probe,
		exec func(ctx context.Context, command []string) error, verdict func(good bool, why string))
}

// HostPorts forwards ports of the node to pods. Methods may be called at once and
// repeated. What is forwarded outlives the process.
type HostPorts interface {
	// Forward makes the host ports among ports lead to the pod, and no others.
	Forward(pod string, address netip.Addr, ports []object.ContainerPort) error
	// Release takes the pod's ports back.
	Release(pod string) error
	// Retain takes back the ports of pods that are not listed.
	Retain(pods []string) error
	// Ensure puts right what is missing; it is called again and again.
	Ensure() error
	// Purge removes everything that was ever made on this machine.
	Purge() error
}

// Guard holds pods to the network policies that the node knows of. Methods may be
// called at once and repeated. What is in force outlives the process.
type Guard interface {
	// Guard returns when nothing passes to and from the pod but what is allowed; it
	// is called before the pod's first process starts, and for one that has been
	// running under the rules of an earlier process before the first view is applied.
	Guard(id string, pod *object.Pod, address netip.Addr, running bool) error
	// Release forgets the pod; its address may be another's afterwards.
	Release(id string) error
	// Retain forgets the pods that are not listed.
	Retain(ids []string) error
}

// Firewall keeps the machine's packet rules that pods need.
type Firewall interface {
	// Ensure puts right what is missing; it is called again and again.
	Ensure() error
	// Purge removes what Ensure made, and nothing else.
	Purge() error
}

// NetworkTool puts what a node has to know of the cluster's network in force: the
// routes to other nodes, the rules of services and policies, names, the ingress.
type NetworkTool interface {
	// Apply puts a view in force and returns when it is: whatever it lists as gone
	// gets nothing new from then on. It is called from one goroutine, with ever
	// newer views, each of them whole; some are skipped. What has not changed since
	// the last call should cost nothing: unchanged objects keep their pointers. What
	// is in force serves on while the process is away; the first call after a
	// restart finds it and corrects it, so that no flow is interrupted.
	Apply(ctx context.Context, v *object.NetworkView) error
	// Ensure finds out whether what was applied last is still so and puts right what
	// is not; it says in words what it mended, for an event. It is called every few
	// seconds, never at once with Apply.
	Ensure(ctx context.Context) (mended []string, err error)
	// Purge removes everything that the tool ever made on this machine, and nothing else.
	Purge() error
}

// Drainer is a NetworkTool that has requests of its own under way.
type Drainer interface {
	// Drain waits until no request is under way to an endpoint that was no longer
	// ready in the view that was applied last before the call, or ctx ends.
	Drain(ctx context.Context) error
}
