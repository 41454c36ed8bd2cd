package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"

	"github.com/berthdev/berth/node/runtime/container"
	"golang.org/x/sys/unix"
)

// CreateNamespaces makes the network, IPC and UTS namespaces of a pod and pins
// them to files in dir, so that they live without a process until
// RemoveNamespaces. The host name is set, and the loopback device is up; the
// rest of the network is the caller's affair. If they are there already they are
// kept as they are.
//
// A pod that shares nothing, for it has one container, gets a network namespace
// alone; the others come with its container. Each pin is a mount, and runc reads
// the list of all mounts five times whenever it makes a container.
func CreateNamespaces(dir, hostname string, shares bool) (container.Namespaces, error) {
	n := namespaceFiles(dir)
	if pinned(n.Net) && pinned(n.IPC) && pinned(n.UTS) {
		return n, nil
	}
	if !shares {
		n.IPC, n.UTS = "", ""
		if pinned(n.Net) {
			return n, nil
		}
	}
	if err := RemoveNamespaces(dir); err != nil { // what a crash half-way left
		return n, err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return n, fmt.Errorf("pod namespaces: %w", err)
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, which is in other namespaces now, ends with
		// this goroutine.
		goruntime.LockOSThread()
		result <- makeNamespaces(n, hostname)
	}()
	if err := <-result; err != nil {
		return n, errors.Join(fmt.Errorf("pod namespaces in %s: %w", dir, err), RemoveNamespaces(dir))
	}
	return n, nil
}

func namespaceFiles(dir string) container.Namespaces {
	return container.Namespaces{Net: filepath.Join(dir, "net"), IPC: filepath.Join(dir, "ipc"), UTS: filepath.Join(dir, "uts")}
}

// pinned tells whether the file is a namespace.
func pinned(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Type == unix.NSFS_MAGIC
}

func makeNamespaces(n container.Namespaces, hostname string) error {
	flags := unix.CLONE_NEWNET
	if n.UTS != "" {
		flags |= unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if hostname != "" && n.UTS != "" {
		if err := unix.Sethostname([]byte(hostname[:min(len(hostname), maxHostname)])); err != nil {
			return fmt.Errorf("host name %q: %w", hostname, err)
		}
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback device: %w", err)
	}
	for name, path := range map[string]string{"net": n.Net, "ipc": n.IPC, "uts": n.UTS} {
		if path == "" {
			continue
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
		if err != nil {
			return err
		}
		f.Close()
		if err := unix.Mount("/proc/thread-self/ns/"+name, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// RemoveNamespaces undoes CreateNamespaces; with the last process gone, the
// kernel ends the namespaces and the network devices in them. Removing what is
// not there succeeds.
func RemoveNamespaces(dir string) error {
	n := namespaceFiles(dir)
	var errs []error
	for _, path := range []string{n.Net, n.IPC, n.UTS} {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unpin %s: %w", path, err))
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	_ = os.Remove(dir) // only if nobody else keeps files in it
	return errors.Join(errs...)
}
