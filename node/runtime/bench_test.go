package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// meter measures the processor time of this process and of all that it starts,
// and of a node's containers, whatever else the machine does. It joins a control
// group of its own, so it comes before all else.
func meter(b *testing.B) (used func(node cgroups) time.Duration) {
	own := detectCgroups(fmt.Sprintf("/berth-bench-%d", os.Getpid()))
	procs := own.file("cpuacct", "", "cgroup.procs")
	if err := os.MkdirAll(filepath.Dir(procs), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		root := filepath.Join(filepath.Dir(filepath.Dir(procs)), "cgroup.procs")
		if err := os.WriteFile(root, []byte("0"), 0); err != nil {
			b.Error(err)
		}
		await(b, "an empty control group", func() bool { return own.remove() == nil })
	})
	return func(node cgroups) time.Duration {
		ours, err := own.cpu("")
		if err != nil {
			b.Fatal(err)
		}
		theirs, _ := node.cpu("") // it has none before its first container
		return ours + theirs
	}
}

// BenchmarkPods starts pods of one container, with namespaces of their own, and
// measures one after the other and four at a time; pods/s and, with one worker,
// the time from the call to the running process (ns/op). cpu-ms/pod is the processor
// time of all that takes part, the figure to compare on a machine that is shared.
// Removing them is not measured.
func BenchmarkPods(b *testing.B) {
	for _, workers := range []int{1, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			used := meter(b)
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
				ns, err := CreateNamespaces(filepath.Join(c.State, "ns", name), name, false)
				if err != nil {
					return err
				}
				_, err = r.StartContainer(b.Context(), container.Spec{
					Pod: container.Pod{Namespace: "default", Name: name}, Name: "web",
					Image: runtimetest.Image, Namespaces: ns, Hostname: name,
				})
				return err
			}
			before := used(r.cgroups)
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
			b.ReportMetric(float64((used(r.cgroups)-before).Milliseconds())/float64(n.Load()), "cpu-ms/pod")
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "pods/s")
		})
	}
}
