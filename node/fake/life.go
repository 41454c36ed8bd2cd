package fake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// errStopped ends a life because the pod is to stop.
var errStopped = errors.New("stopped")

// live is one pod's life.
func (n *Node) live(ctx context.Context, ref object.Ref, p *pod) {
	var err error
	if p.adopted() {
		err = n.run(ctx, ref, p)
	} else {
		err = n.start(ctx, ref, p)
	}
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, errStopped) {
		n.end(ctx, ref, p)
	}
}

// adopted reports whether the pod ran before this node process did.
func (p *pod) adopted() bool {
	return p.spec != nil && p.status.Phase == object.PodRunning && len(p.status.Containers) == len(p.spec.Containers)
}

// wait lets time pass, unless the pod is to stop.
func (p *pod) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stop:
		return errStopped
	case <-t.C:
		return nil
	}
}

// forever waits for the stop.
func (p *pod) forever(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stop:
		return errStopped
	}
}

func (n *Node) start(ctx context.Context, ref object.Ref, p *pod) error {
	if p.spec == nil {
		n.update(ref, p, func(s *object.PodStatus) {
			s.Phase, s.Reason, s.Message = object.PodStarting, object.ReasonConfig, "the pod came without its template"
		})
		return p.forever(ctx)
	}
	n.update(ref, p, func(s *object.PodStatus) {
		s.Phase = object.PodStarting
		for _, c := range p.spec.Containers {
			s.Containers = append(s.Containers, object.ContainerStatus{Name: c.Name, State: "waiting", Image: c.Image})
		}
	})
	if n.cfg.Reveal {
		if err := n.reveal(ctx, ref, p); err != nil {
			return err
		}
	}
	var pull, start time.Duration
	for _, c := range slices.Concat(p.spec.Init, p.spec.Containers) {
		b := n.behavior(c.Image)
		pull, start = max(pull, b.Pull), start+b.Start
		for ; b.Missing; b = n.behavior(c.Image) {
			if err := p.wait(ctx, b.Pull); err != nil {
				return err
			}
			n.update(ref, p, func(s *object.PodStatus) {
				s.Reason, s.Message = object.ReasonImageNotFound, fmt.Sprintf("container %s: image %s does not exist in its registry", c.Name, c.Image)
			})
			if err := p.wait(ctx, 10*time.Second); err != nil {
				return err
			}
		}
	}
	if err := p.wait(ctx, pull+start); err != nil {
		return err
	}
	address := n.address()
	pinned := make(map[string]string, len(p.spec.Containers))
	for _, c := range p.spec.Containers {
		if pinned[c.Name] = p.spec.Pinned(c.Image); pinned[c.Name] == c.Image {
			pinned[c.Name] = n.pinned(c.Image)
		}
	}
	n.update(ref, p, func(s *object.PodStatus) {
		s.Phase, s.Reason, s.Message, s.Address, s.Started = object.PodRunning, "", "", address, now()
		for i := range s.Containers {
			c := &s.Containers[i]
			c.State, c.Started, c.ID = "running", now(), fmt.Sprintf("%s.%s.%d.0", ref.Name, c.Name, p.created)
			c.Image = pinned[c.Name]
		}
	})
	return n.run(ctx, ref, p)
}

// pinned is an image's name with the digest that it has here, as a real runtime
// reports it.
func (n *Node) pinned(image string) string {
	name, _, _ := strings.Cut(image, "@")
	return name + "@" + Content(cmp.Or(n.behavior(image).Content, image))
}

func (n *Node) reveal(ctx context.Context, ref object.Ref, p *pod) error {
	for _, key := range slices.Sorted(maps.Keys(p.spec.Reads)) {
		kind, name, _ := strings.Cut(key, "/")
		content := object.ContentName(object.Ref{Kind: object.Kind(kind), Name: name}, p.spec.Reads[key])
		for {
			_, err := n.cfg.Masters.Content(ctx, ref.Namespace, content)
			if err == nil {
				break
			}
			n.update(ref, p, func(s *object.PodStatus) {
				s.Reason, s.Message = object.ReasonConfig, fmt.Sprintf("%s cannot be read: %v", strings.Replace(key, "/", " ", 1), err)
			})
			if err := p.wait(ctx, time.Second); err != nil {
				return err
			}
		}
	}
	return nil
}

// run plays the containers' script until the pod ends or is stopped. A pod
// behaves as the worst of its containers: one crash script is enough.
func (n *Node) run(ctx context.Context, ref object.Ref, p *pod) error {
	for crashes := 0; ; {
		b, idx := n.worst(p)
		code := cmp.Or(b.ExitCode, 1)
		crash := (b.Crash > 0 || b.OOM) && (b.CrashTimes == 0 || crashes < b.CrashTimes)
		end := b.Crash
		if !crash && b.Exit > 0 {
			end, code = b.Exit, 0
		}
		ends := crash || b.Exit > 0
		if !b.NotReady && (!ends || b.Ready < end) {
			if err := p.wait(ctx, b.Ready); err != nil {
				return err
			}
			n.mu.Lock()
			if n.pods[ref] == p {
				n.setReady(ref, p, true)
			}
			n.mu.Unlock()
			end -= b.Ready
		}
		if !ends {
			return p.forever(ctx)
		}
		if err := p.wait(ctx, end); err != nil {
			return err
		}
		crashes++
		if done := n.exited(ref, p, b, idx, code, crashes); done {
			return p.forever(ctx)
		}
		if err := p.wait(ctx, backoff(crashes)); err != nil {
			return err
		}
		n.update(ref, p, func(s *object.PodStatus) {
			s.Containers[idx].State, s.Containers[idx].Started = "running", now()
			s.Containers[idx].Restarts++
			if crashes < 3 {
				s.Reason, s.Message = "", ""
			}
		})
	}
}

// backoff is the wait before a restart: 1 s, doubling to 5 min.
func backoff(crashes int) time.Duration {
	return min(time.Second<<min(crashes-1, 20), 5*time.Minute)
}

// worst is the behaviour of the container that ends first, or is ready last.
func (n *Node) worst(p *pod) (Behavior, int) {
	var worst Behavior
	at := 0
	for i, c := range p.spec.Containers {
		b := n.behavior(c.Image)
		switch {
		case i == 0, (b.Crash > 0 || b.OOM) && worst.Crash == 0 && !worst.OOM, b.NotReady && !worst.NotReady, b.Ready > worst.Ready:
			worst, at = b, i
		}
	}
	return worst, at
}

// exited records the end of a container; true if the pod has ended with it.
func (n *Node) exited(ref object.Ref, p *pod, b Behavior, idx, code, times int) bool {
	again := p.spec.Restart == "always" || p.spec.Restart == "" || (p.spec.Restart == "on_failure" && code != 0)
	n.update(ref, p, func(s *object.PodStatus) {
		s.Ready, s.ReadySince = false, time.Time{}
		c := &s.Containers[idx]
		c.State, c.Ready, c.ExitCode, c.Finished, c.LastLog = "exited", false, code, now(), b.Log
		c.Reason, c.Message = "error", fmt.Sprintf("exit code %d", code)
		switch {
		case b.OOM:
			c.Reason, c.ExitCode, c.Message = object.ReasonOOM, 137, "killed: over its memory limit"
		case code == 0:
			c.Reason, c.Message = "completed", ""
		}
		switch {
		case !again && code == 0:
			s.Phase = object.PodSucceeded
		case !again:
			s.Phase, s.Reason, s.Message = object.PodFailed, c.Reason, fmt.Sprintf("container %s: %s", c.Name, c.Message)
		case times >= 3:
			s.Reason, s.Message = object.ReasonCrashLoop, fmt.Sprintf("container %s ended %d times: %s", c.Name, times, c.Message)
		default:
			s.Reason, s.Message = c.Reason, fmt.Sprintf("container %s: %s", c.Name, c.Message)
		}
	})
	return !again
}

// end stops the pod the way a real node does: not ready first, then the signal.
func (n *Node) end(ctx context.Context, ref object.Ref, p *pod) {
	stop, grace := time.Duration(0), 30*time.Second
	if p.spec != nil {
		grace = p.spec.Grace.D()
		for _, c := range p.spec.Containers {
			stop = max(stop, n.behavior(c.Image).Stop)
		}
	}
	n.update(ref, p, func(s *object.PodStatus) {
		s.Phase, s.Ready, s.ReadySince = object.PodStopping, false, time.Time{}
		for i := range s.Containers {
			s.Containers[i].Ready = false
		}
	})
	if !sleep(ctx, min(stop, grace)) {
		return
	}
	n.update(ref, p, func(s *object.PodStatus) {
		s.Phase = object.PodStopped
		for i := range s.Containers {
			s.Containers[i].State, s.Containers[i].Finished = "exited", now()
		}
	})
}
