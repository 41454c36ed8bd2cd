package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// quarantine is how long a freed address is kept back, so that connections and
// proxies that still mean the old pod do not meet the new one.
const quarantine = 30 * time.Second

// allocator hands out the addresses of a range, round robin. The first address
// is the gateway's, the last the broadcast address. It is not safe for use at
// once.
type allocator struct {
	path string
	now  func() time.Time

	r      netip.Prefix
	cursor netip.Addr // the last one handed out
	byPod  map[string]netip.Addr
	used   map[netip.Addr]string
	freed  map[netip.Addr]time.Time
}

// leaseFile is in the network's directory.
const leaseFile = "addresses.json"

// leases is the file.
type leases struct {
	Range  netip.Prefix          `json:"range"`
	Cursor netip.Addr            `json:"cursor"`
	Pods   map[string]netip.Addr `json:"pods"`
}

// openAllocator reads the file of an earlier run; one that is missing, damaged
// or of another range is begun anew, for the pods tell their addresses again
// (see reserve).
func openAllocator(path string, r netip.Prefix, now func() time.Time) (*allocator, error) {
	r = r.Masked()
	if !r.Addr().Is4() || r.Bits() > 30 {
		return nil, fmt.Errorf("pod range %s is not an IPv4 range of at least 4 addresses; write for example 10.88.1.0/24", r)
	}
	a := &allocator{path: path, now: now, r: r, cursor: r.Addr().Next(),
		byPod: map[string]netip.Addr{}, used: map[netip.Addr]string{}, freed: map[netip.Addr]time.Time{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	var l leases
	if json.Unmarshal(b, &l) != nil || l.Range != r {
		return a, nil
	}
	for pod, addr := range l.Pods {
		a.reserve(pod, addr)
	}
	if r.Contains(l.Cursor) {
		a.cursor = l.Cursor
	}
	return a, nil
}

// Leased is the range that pods of an earlier process have addresses of, and how
// many do: none if the directory is a new node's.
func Leased(dir string) (r netip.Prefix, pods int) {
	var l leases
	if b, err := os.ReadFile(filepath.Join(dir, leaseFile)); err == nil && json.Unmarshal(b, &l) != nil {
		l = leases{}
	}
	plugged := map[string]cniPod{}
	if b, err := os.ReadFile(filepath.Join(dir, cniFile)); err == nil && json.Unmarshal(b, &plugged) != nil {
		clear(plugged)
	}
	return l.Range, len(l.Pods) + len(plugged)
}

func (a *allocator) gateway() netip.Prefix {
	return netip.PrefixFrom(a.r.Addr().Next(), a.r.Bits())
}

// reserve records that a pod has an address; false if that cannot be.
func (a *allocator) reserve(pod string, addr netip.Addr) bool {
	if owner, taken := a.used[addr]; taken && owner != pod {
		return false
	}
	if !a.r.Contains(addr) || addr == a.r.Addr() || addr == a.gateway().Addr() || a.isLast(addr) {
		return false
	}
	a.byPod[pod], a.used[addr] = addr, pod
	delete(a.freed, addr)
	return true
}

func (a *allocator) isLast(addr netip.Addr) bool { return !a.r.Contains(addr.Next()) }

// take gives the pod an address, the same one if it has one.
func (a *allocator) take(pod string) (netip.Addr, error) {
	if addr, ok := a.byPod[pod]; ok {
		return addr, nil
	}
	now := a.now()
	var oldest netip.Addr
	addr := a.cursor
	for range a.size() {
		addr = a.after(addr)
		if _, taken := a.used[addr]; !taken {
			t, resting := a.freed[addr]
			if !resting || now.Sub(t) >= quarantine {
				return a.give(pod, addr)
			}
			if !oldest.IsValid() || t.Before(a.freed[oldest]) {
				oldest = addr
			}
		}
	}
	if oldest.IsValid() { // better soon again than not at all
		return a.give(pod, oldest)
	}
	return netip.Addr{}, fmt.Errorf("all %d addresses of the pod range %s are taken; give the node a larger range", a.size(), a.r)
}

func (a *allocator) give(pod string, addr netip.Addr) (netip.Addr, error) {
	a.reserve(pod, addr)
	a.cursor = addr
	if err := a.save(); err != nil {
		a.release(pod)
		return netip.Addr{}, err
	}
	return addr, nil
}

func (a *allocator) size() int { return 1<<(32-a.r.Bits()) - 3 }

// after is the next address that pods may have, in a circle.
func (a *allocator) after(addr netip.Addr) netip.Addr {
	addr = addr.Next()
	if !a.r.Contains(addr) || a.isLast(addr) {
		addr = a.gateway().Addr().Next()
	}
	return addr
}

func (a *allocator) release(pod string) bool {
	addr, ok := a.byPod[pod]
	if !ok {
		return false
	}
	delete(a.byPod, pod)
	delete(a.used, addr)
	a.freed[addr] = a.now()
	return true
}

// save writes the file.
func (a *allocator) save() error {
	b, err := json.Marshal(leases{Range: a.r, Cursor: a.cursor, Pods: a.byPod})
	if err == nil {
		err = replace(a.path, b)
	}
	if err != nil {
		return fmt.Errorf("saving pod addresses: %w", err)
	}
	return nil
}
