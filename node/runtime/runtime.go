package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerdlog "github.com/containerd/log"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// containerd's client writes its own log lines to standard error; what matters in
// them is in the errors it returns.
func init() { _ = containerdlog.SetLevel("fatal") }

// Config is where and how a Runtime works. Only Root and State are required.
type Config struct {
	// Root keeps what must survive a reboot: images, snapshots, logs, records.
	// At most one Runtime has it open; State belongs to Root for ever.
	Root string
	// State keeps sockets and mounts. Its path must be shorter than 64 bytes, for
	// unix sockets lie below it. With a private containerd it is in memory: where
	// it lies on a disk, a tmpfs is mounted on it.
	State string
	// Socket is a containerd to use. Empty starts a private one as a child, in
	// this process's network and mount namespace, and restarts it when it dies.
	Socket        string
	Namespace     string   // of containerd; default "berth"
	Snapshotter   string   // default overlayfs where the kernel, or the given containerd, can do it, else native
	RuntimeBinary string   // an OCI runtime; default "runc"
	Containerd    string   // the daemon's binary; default "containerd" from PATH
	Insecure      []string // registries (host:port) spoken to in plain HTTP; loopback always is

	LogSize  int64 // bytes of one log file; default 10 MiB
	LogFiles int   // log files kept for each attempt of a container; default 3

	rescueEvery time.Duration     // see logrescue.go; for tests
	dial        []grpc.DialOption // of the connection to containerd; for tests

	Logger *slog.Logger // default: discard
}

// Runtime runs containers on this machine. Its methods may be called at once.
type Runtime struct {
	cfg         Config
	log         *slog.Logger
	lock        *os.File
	daemon      *daemon // nil with a foreign containerd
	client      *containerd.Client
	snapshotter string
	imageDisk   string // a directory on the file system that images are on
	binary      string // path of the OCI runtime
	runc        bool   // it is runc: see start.go
	cgroups     cgroups
	limits      limits
	records     records
	logs        *logStore
	events      *eventQueue
	words       lastWords

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	monitors map[string]*monitor
	pods     map[container.Pod]*podLock
	configs  map[string]imageConfig   // by manifest digest
	used     map[string]imageUse      // by image name
	pulls    map[string]chan struct{} // images being pulled
}

var _ container.Runtime = (*Runtime)(nil)

// Open starts or reaches containerd and takes over every container that is
// there: it watches them, collects what they log, and records those that ended
// meanwhile. It returns an *container.UnavailableError when containerd is
// missing or does not come up.
func Open(ctx context.Context, cfg Config) (*Runtime, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, d := range []string{cfg.Root, cfg.State} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("runtime directory: %w", err)
		}
	}
	lock, err := lockRoot(cfg.Root)
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		cfg: cfg, log: cfg.Logger, lock: lock,
		cgroups:  detectCgroups(cfg.cgroupParent()),
		limits:   detectLimits(),
		records:  records{dir: filepath.Join(cfg.Root, "containers")},
		events:   newEventQueue(),
		monitors: map[string]*monitor{},
		pods:     map[container.Pod]*podLock{},
		configs:  map[string]imageConfig{},
		used:     map[string]imageUse{},
		pulls:    map[string]chan struct{}{},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if err := r.open(ctx); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Runtime) open(ctx context.Context) (err error) {
	if r.logs, err = openLogStore(r.cfg.Root, r.cfg.LogSize, r.cfg.LogFiles, r.log); err != nil {
		return err
	}
	r.snapshotter, r.imageDisk = r.cfg.Snapshotter, r.cfg.Root
	if r.snapshotter == "" && r.cfg.Socket == "" {
		r.snapshotter = chooseSnapshotter(r.cfg.Root, r.log)
	}
	if r.cfg.Socket == "" {
		if err := stateInMemory(r.cfg.State); err != nil {
			r.log.Warn("containers start more slowly", "error", err)
		}
		r.words.bundles = filepath.Join(r.cfg.daemonState(), shimBundle, r.cfg.Namespace)
		if r.daemon, err = startDaemon(ctx, r.cfg, r.listenAll); err != nil {
			return err
		}
	}
	r.client, err = containerd.New(r.cfg.address(),
		containerd.WithDefaultNamespace(r.cfg.Namespace), containerd.WithTimeout(10*time.Second), containerd.WithExtraDialOpts(r.cfg.dial))
	if err != nil {
		return &container.UnavailableError{
			Message: "containerd does not answer at " + r.cfg.address(), Err: err,
			Hint: "start it, or install it with: apt-get install containerd runc",
		}
	}
	if err := r.findRuntimeBinary(); err != nil {
		return err
	}
	r.runc = isRunc(ctx, r.binary)
	if err := r.checkVersion(ctx); err != nil {
		return err
	}
	if err := r.foreignSnapshots(ctx); err != nil {
		return err
	}
	if err := r.adopt(ctx); err != nil {
		return err
	}
	r.work.Go(func() { r.tendLogs(cmp.Or(r.cfg.rescueEvery, rescueEvery)) })
	return nil
}

// Close stops watching and, if it is ours, containerd. Containers go on running
// and logging; the next Open takes them over.
// Closing again does nothing.
func (r *Runtime) Close() error {
	if r.ctx.Err() != nil {
		return nil
	}
	r.cancel()
	if r.daemon != nil {
		r.daemon.stop()
	}
	var err error
	if r.client != nil {
		err = r.client.Close()
	}
	if r.logs != nil {
		err = errors.Join(err, r.logs.close())
	}
	r.work.Wait()
	r.events.close()
	return errors.Join(err, r.lock.Close())
}

// Health is nil while containerd answers, else an *container.UnavailableError.
func (r *Runtime) Health() error {
	if r.daemon != nil {
		if err := r.daemon.health(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
	defer cancel()
	if _, err := r.client.Version(ctx); err != nil {
		return r.unavailable(err)
	}
	return nil
}

// Events delivers the ends of containers in the order they were seen. The
// channel is closed by Close. There is one channel: one reader gets it all.
func (r *Runtime) Events() <-chan container.Event { return r.events.out }

// ns gives a context in our containerd namespace.
func (r *Runtime) ns(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, r.cfg.Namespace)
}

func (c Config) withDefaults() (Config, error) {
	if c.Root == "" || c.State == "" {
		return c, errors.New("runtime: Root and State must be set")
	}
	if os.Geteuid() != 0 {
		return c, &container.UnavailableError{Message: "containers need root", Hint: "run the node as root"}
	}
	var err error
	if c.Root, err = filepath.Abs(c.Root); err != nil {
		return c, err
	}
	if c.State, err = filepath.Abs(c.State); err != nil {
		return c, err
	}
	if len(c.State) > 64 {
		return c, fmt.Errorf("the state directory %s is too long for unix sockets: %d bytes, at most 64; choose one below /run", c.State, len(c.State))
	}
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Namespace, "berth")
	def(&c.RuntimeBinary, "runc")
	def(&c.Containerd, "containerd")
	if c.LogSize <= 0 {
		c.LogSize = 10 << 20
	}
	if c.LogFiles <= 0 {
		c.LogFiles = 3
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// address is containerd's socket.
func (c Config) address() string {
	if c.Socket != "" {
		return c.Socket
	}
	return filepath.Join(c.State, "containerd.sock")
}

// lockRoot makes sure that two agents never share one directory.
func lockRoot(root string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(root, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("runtime directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another node agent; stop it, or choose another data directory", root)
	}
	return f, nil
}

// runcRoot is where the OCI runtime keeps its state.
func (c Config) runcRoot() string { return filepath.Join(c.State, "runc") }
