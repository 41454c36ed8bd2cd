package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// The limit follows what is alive, and is gone once a server takes it back.
func TestClientMemory(t *testing.T) {
	t.Cleanup(serverMemory)
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	clientMemory()
	alive := make([]byte, clientBudget) // untouched, it takes no memory of the machine
	deadline := time.After(10 * time.Second)
	for limit() < 2*clientBudget {
		runtime.GC()
		select {
		case <-deadline:
			t.Fatalf("with %d MB alive the limit is %d MB", len(alive)>>20, limit()>>20)
		default:
			runtime.Gosched() // finalizers run beside
		}
	}
	runtime.KeepAlive(alive)
	for limit() > clientBudget { // nothing refers to it any more
		runtime.GC()
		runtime.Gosched()
		select {
		case <-deadline:
			t.Fatalf("with nothing alive the limit is %d MB", limit()>>20)
		default:
		}
	}
	serverMemory()
	runtime.GC()
	if limit() != math.MaxInt64 {
		t.Errorf("a server is limited to %d", limit())
	}
}

// Reading a configuration puts the first collection off, and that one takes it back.
func TestConfigurationMemory(t *testing.T) {
	t.Cleanup(serverMemory)
	percent := func() int { p := debug.SetGCPercent(-1); debug.SetGCPercent(p); return p }
	clientMemory()
	configurationMemory()
	if percent() != -1 || debug.SetMemoryLimit(-1) != configurationFirst {
		t.Fatalf("collected at %d%%, limit %d", percent(), debug.SetMemoryLimit(-1))
	}
	deadline := time.After(10 * time.Second)
	for percent() != collectAt || debug.SetMemoryLimit(-1) < clientBudget {
		runtime.GC()
		select {
		case <-deadline:
			t.Fatalf("after a collection: %d%%, limit %d", percent(), debug.SetMemoryLimit(-1))
		default:
			runtime.Gosched() // finalizers run beside
		}
	}
	configurationMemory()
	if clientMemory(); percent() != collectAt {
		t.Errorf("a client that follows collects at %d%%", percent())
	}
}
