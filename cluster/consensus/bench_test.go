package consensus

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPropose commits 1 KB objects through three masters on disk.
func BenchmarkPropose(b *testing.B) {
	for _, writers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			dir := b.TempDir()
			c := newCluster(b, 3, func(id string) Storage { return Disk(filepath.Join(dir, id)) }, func(c *Config) { c.ElectionTimeout = time.Second })
			l := c.leader()
			ctx := b.Context()
			text := strings.Repeat("x", 900)
			var next atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						if _, err := l.Propose(ctx, create(configMap(fmt.Sprintf("o%09d", i), text))); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}
