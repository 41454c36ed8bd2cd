package consensus

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/berthdev/berth/cluster/object"
)

// Parallel is the object.Each that uses all processors. A panic of do is the caller's,
// as it would be without other goroutines: who answers a request gets over it.
func Parallel(n int, do func(i int) error) error {
	workers := min(n, runtime.GOMAXPROCS(0))
	if workers <= 1 {
		return object.InOrder(n, do)
	}
	errs := make([]error, n)
	var next atomic.Int64
	var defect atomic.Pointer[relayed]
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					defect.CompareAndSwap(nil, &relayed{v, debug.Stack()})
				}
			}()
			for defect.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[i] = do(i)
			}
		})
	}
	wg.Wait()
	if d := defect.Load(); d != nil {
		panic(d)
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// relayed is a panic that came up in another goroutine, with the place.
type relayed struct {
	value any
	stack []byte
}

func (r *relayed) String() string { return fmt.Sprintf("%v\n%s", r.value, r.stack) }
