package consensus

import (
	"context"
	"sync"
)

// progress is an index that grows and can be waited for.
type progress struct {
	mu      sync.Mutex
	index   uint64
	waiting bool
	moved   chan struct{} // closed at the next advance
}

func (p *progress) init() { p.moved = make(chan struct{}) }

func (p *progress) advance(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index <= p.index {
		return
	}
	p.index = index
	if p.waiting {
		close(p.moved)
		p.moved, p.waiting = make(chan struct{}), false
	}
}

func (p *progress) get() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

func (p *progress) wait(ctx context.Context, index uint64) error {
	for {
		p.mu.Lock()
		if p.index >= index {
			p.mu.Unlock()
			return nil
		}
		p.waiting = true
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
