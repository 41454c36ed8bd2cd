package ingress

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// memorySize bounds what secrets may take.
const memorySize = 16 << 20

// How long a secret that could not be had is waited for before the next attempt.
const (
	firstWait = time.Second
	lastWait  = 30 * time.Second
)

// vault keeps the secrets of ingresses, in memory only: in the process, and in a
// tmpfs, where the next process finds them while masters are away. What is there
// is used until something newer has come.
type vault struct {
	source Secrets
	dir    string // on tmpfs; empty: only in the process
	log    *slog.Logger
	tell   func() // called when something has come
	wake   chan struct{}

	mu     sync.Mutex
	wanted map[object.Ref]map[string]string // digests by name of secret
	held   secrets
	late   map[object.Ref]attempt
}

type attempt struct {
	next time.Time
	wait time.Duration
}

func openVault(source Secrets, dir string, log *slog.Logger, tell func()) (*vault, error) {
	v := &vault{source: source, log: log, tell: tell, wake: make(chan struct{}, 1), wanted: map[object.Ref]map[string]string{}, held: secrets{}, late: map[object.Ref]attempt{}}
	if dir == "" {
		return v, nil
	}
	if err := inMemory(dir); err != nil {
		log.Warn("secrets of ingresses will not be there after a restart without masters", "directory", dir, "error", err)
		return v, nil
	}
	v.dir = dir
	return v, v.load()
}

// inMemory makes dir a file system in memory, which is not swapped out where the
// kernel can promise that, and which only the owner can look into.
func inMemory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var at unix.Statfs_t
	if err := unix.Statfs(dir, &at); err != nil {
		return err
	}
	var self, parent unix.Stat_t
	if unix.Lstat(dir, &self) == nil && unix.Lstat(filepath.Dir(dir), &parent) == nil && self.Dev != parent.Dev && at.Type == unix.TMPFS_MAGIC {
		return nil // from the last start
	}
	options := fmt.Sprintf("mode=0700,size=%d", memorySize)
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options+",noswap")
	if errors.Is(err, unix.EINVAL) { // before Linux 6.4
		err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
	}
	if err != nil {
		return fmt.Errorf("mounting tmpfs: %w", err)
	}
	return nil
}

func (v *vault) file(ref object.Ref) string { return filepath.Join(v.dir, ref.Namespace+"@"+ref.Name) }

func (v *vault) load() error {
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return fmt.Errorf("secrets of ingresses: %w", err)
	}
	for _, e := range entries {
		namespace, name, ok := strings.Cut(e.Name(), "@")
		if !ok {
			continue
		}
		b, err := os.ReadFile(filepath.Join(v.dir, e.Name()))
		var s object.IngressSecrets
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			v.log.Warn("secrets of an ingress cannot be read; the masters are asked for them", "ingress", namespace+"/"+name)
			continue
		}
		v.held[object.Ref{Kind: object.KindIngress, Namespace: namespace, Name: name}] = &s
	}
	return nil
}

// want says which versions are in force. Secrets of other ingresses are forgotten.
func (v *vault) want(list []*object.Ingress) {
	v.mu.Lock()
	wanted := make(map[object.Ref]map[string]string)
	for _, o := range list {
		if len(o.SecretRefs()) > 0 {
			wanted[o.Ref()] = o.Status.Secrets
		}
	}
	v.wanted = wanted
	for ref := range v.held {
		if _, ok := wanted[ref]; !ok {
			delete(v.held, ref)
			v.forget(ref)
		}
	}
	maps.DeleteFunc(v.late, func(ref object.Ref, _ attempt) bool { _, ok := wanted[ref]; return !ok })
	v.mu.Unlock()
	v.ask()
}

func (v *vault) forget(ref object.Ref) {
	if v.dir == "" {
		return
	}
	if err := os.Remove(v.file(ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.log.Warn("secrets of an ingress that is gone could not be removed", "ingress", ref.String(), "error", err)
	}
}

// ask makes run look.
func (v *vault) ask() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// secrets are those held now; the map is the caller's.
func (v *vault) secrets() secrets {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.held)
}

// stale lists what is to be fetched now, and when to look again if not before.
func (v *vault) stale(now time.Time) (due []object.Ref, next time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for ref, digests := range v.wanted {
		if current(v.held[ref], digests) {
			delete(v.late, ref)
			continue
		}
		if a := v.late[ref]; a.next.After(now) {
			if next.IsZero() || a.next.Before(next) {
				next = a.next
			}
			continue
		}
		due = append(due, ref)
	}
	return due, next
}

func current(s *object.IngressSecrets, digests map[string]string) bool {
	if s == nil {
		return len(digests) == 0
	}
	if len(s.Secrets) != len(digests) {
		return false
	}
	for name, d := range digests {
		if s.Secrets[name].Digest != d {
			return false
		}
	}
	return true
}

// run fetches what is wanted until ctx ends.
func (v *vault) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		case <-timer.C:
		}
		due, _ := v.stale(time.Now())
		came := false
		for _, ref := range due {
			came = v.fetch(ctx, ref) || came
		}
		if came {
			v.tell()
		}
		if _, next := v.stale(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// fetch gets the secrets of one ingress and reports whether they are others than
// before. What is newer than the view says, or older, is asked for again later.
func (v *vault) fetch(ctx context.Context, ref object.Ref) bool {
	var got object.IngressSecrets
	err := errors.New("there are no masters to ask")
	if v.source != nil {
		ask, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		got, err = v.source.IngressSecrets(ask, ref.Namespace, ref.Name)
	}
	if err != nil && ctx.Err() == nil {
		v.log.Warn("secrets of an ingress cannot be had", "ingress", ref.String(), "error", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	digests, ok := v.wanted[ref]
	if !ok {
		return false
	}
	if err != nil || !current(&got, digests) {
		a := v.late[ref]
		a.wait = min(max(firstWait, 2*a.wait), lastWait)
		a.next = time.Now().Add(a.wait + rand.N(a.wait/4))
		v.late[ref] = a
	}
	if err != nil || v.held[ref] != nil && equalSecrets(v.held[ref], &got) {
		return false
	}
	v.held[ref] = &got
	if v.dir != "" {
		if err := write(v.file(ref), got); err != nil {
			v.log.Warn("secrets of an ingress could not be kept for a restart", "ingress", ref.String(), "error", err)
		}
	}
	return true
}

func equalSecrets(a, b *object.IngressSecrets) bool {
	return maps.EqualFunc(a.Secrets, b.Secrets, func(x, y object.PlainSecret) bool { return x.Digest == y.Digest && maps.Equal(x.Data, y.Data) })
}

func write(file string, s object.IngressSecrets) error {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(s); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// purge takes the file system away, and all in it.
func (v *vault) purge() error {
	if v.dir == "" {
		return nil
	}
	if err := unix.Unmount(v.dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmounting %s: %w", v.dir, err)
	}
	return os.RemoveAll(v.dir)
}
