package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// A budget is what a process may take before it collects garbage eagerly; more than
// twice of what it needs it never takes beyond that.
const (
	clientBudget = 300 << 20
	masterBudget = 256 << 20
)

// frugal guards the limit against a collection that ends while it is taken back.
var frugal struct {
	sync.Mutex
	on     bool
	budget int64
}

// clientMemory trades memory for speed, within bounds: a client lives for a
// moment, and collecting is half of the work of a plan of ten thousand objects.
// The limit follows what is alive, for close to a fixed one the collector would
// hardly stop.
func clientMemory() { withinBudget(clientBudget) }

// masterMemory is the same for a master: a plan of ten thousand objects is rehearsed
// on its leader, and leaves nothing behind.
func masterMemory() { withinBudget(masterBudget) }

func withinBudget(budget int64) {
	frugal.Lock()
	defer frugal.Unlock()
	frugal.budget = budget
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(budget)
	if !frugal.on { // tests run one command after the other
		frugal.on = true
		runtime.SetFinalizer(new(pulse), onCollection)
	}
}

// serverMemory takes that back for processes that stay and do a little all the time.
func serverMemory() {
	frugal.Lock()
	defer frugal.Unlock()
	frugal.on = false
	debug.SetGCPercent(100)
	debug.SetMemoryLimit(math.MaxInt64)
}

// pulse is garbage from the start: its finalizer runs after each collection.
type pulse struct{ _ [16]byte }

func onCollection(p *pulse) {
	frugal.Lock()
	defer frugal.Unlock()
	if !frugal.on {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetMemoryLimit(max(frugal.budget, 2*int64(live[0].Value.Uint64())))
	runtime.SetFinalizer(p, onCollection)
}
