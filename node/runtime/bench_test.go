package runtime

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/runtime/runtimetest"
	"pgregory.net/rapid"
)

// contextFor is the test's context; rapid's checks have one too.
func contextFor(t rapid.TB) context.Context {
	if c, ok := t.(interface{ Context() context.Context }); ok {
		return c.Context()
	}
	return context.Background()
}

// blocks is how much disk a file takes, in bytes.
func blocks(path string) int64 {
	var s syscall.Stat_t
	if syscall.Stat(path, &s) != nil {
		return 0
	}
	return s.Blocks * 512
}

// BenchmarkPods starts pods of one container, with namespaces of their own, and
// measures one after the other and four at a time; pods/s and, with one worker,
// the time from the call to the running process (ns/op). Removing them is not
// measured.
func BenchmarkPods(b *testing.B) {
	for _, workers := range []int{1, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			c := testConfig(b)
			r, err := Open(b.Context(), c)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			runtimetest.NewWorld(b, r)
			var n atomic.Int64
			b.SetParallelism(max(1, workers/2)) // times GOMAXPROCS, which is 2 on the reference machine
			start := func() error {
				i := n.Add(1)
				name := fmt.Sprintf("bench-%d", i)
				ns, err := CreateNamespaces(filepath.Join(c.State, "ns", name), name)
				if err != nil {
					return err
				}
				_, err = r.StartContainer(b.Context(), container.Spec{
					Pod: container.Pod{Namespace: "default", Name: name}, Name: "web",
					Image: runtimetest.Image, Namespaces: ns,
				})
				return err
			}
			b.ResetTimer()
			if workers == 1 {
				for b.Loop() {
					if err := start(); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := start(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			b.StopTimer()
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "pods/s")
		})
	}
}
