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
