package consensus

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// A defect that one object of a plan brings out costs the request, not the master.
func TestPanicsOfParallelWorkAreTheCallers(t *testing.T) {
	defer func() {
		text := fmt.Sprint(recover())
		if !strings.HasPrefix(text, "no such thing\n") || !strings.Contains(text, "parallel_test.go") {
			t.Errorf("panicked with %s", text)
		}
	}()
	_ = Parallel(100, func(i int) error {
		if i == 7 {
			panic("no such thing")
		}
		return nil
	})
	t.Error("went on")
}

// Whoever proposes while the master closes is told, though nobody collects any more.
func TestAProposalThatComesTooLateIsRefused(t *testing.T) {
	n := &Node{proposals: make(chan *proposal, 1000), closing: make(chan struct{})}
	close(n.closing)
	var refused atomic.Int32
	for range 100 { // which way a select goes that could go both is chance
		n.enqueue(&proposal{done: func(_ uint64, err error) {
			if object.IsCode(err, object.CodeUnavailable) {
				refused.Add(1)
			}
		}})
	}
	if got := refused.Load(); got != 100 {
		t.Errorf("%d of 100 were told", got)
	}
}
