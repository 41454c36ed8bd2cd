package agent

import (
	"context"
	"time"
)

// backoff is a growing wait: first, doubling, at most most.
type backoff struct {
	first, most time.Duration
	last        time.Duration
}

func (b *backoff) next() time.Duration {
	if b.last == 0 {
		b.last = b.first
	} else {
		b.last = min(2*b.last, b.most)
	}
	return b.last
}

func (b *backoff) reset() { b.last = 0 }

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// now is the time as it is reported: UTC, without the monotonic part, so that
// what comes back from the masters compares equal.
func now() time.Time { return time.Now().UTC().Round(0) }
