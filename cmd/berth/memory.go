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

// collectAt is the percentage of what is alive that may come to it before garbage is
// collected, within the budget.
const collectAt = 400

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

// configurationFirst is what a client takes before its first collection once it reads a
// configuration: marking what is alive, and telling the collector of each pointer that
// is written meanwhile, would be a tenth of the work of a plan, and most of what that
// makes is alive to the end.
const configurationFirst = 240 << 20

// configurationMemory puts the first collection off, until clientMemory or the
// collection itself takes that back.
func configurationMemory() {
	frugal.Lock()
	defer frugal.Unlock()
	debug.SetMemoryLimit(configurationFirst)
	debug.SetGCPercent(-1)
}

// masterMemory is the same for a master: a plan of ten thousand objects is rehearsed
// on its leader, and leaves nothing behind.
func masterMemory() { withinBudget(masterBudget) }

func withinBudget(budget int64) {
	frugal.Lock()
	defer frugal.Unlock()
	frugal.budget = budget
	debug.SetGCPercent(collectAt)
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
	debug.SetGCPercent(collectAt)
	debug.SetMemoryLimit(max(frugal.budget, 2*int64(live[0].Value.Uint64())))
	runtime.SetFinalizer(p, onCollection)
}
