package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// WatchOptions say what to follow; the zero value follows everything.
type WatchOptions struct {
	Kinds     []object.Kind
	Namespace string
	Name      string // one object's
	Stack     string
	Labels    map[string]string
	Node      string // pods bound to it, whole
	Since     uint64 // begin after this index; 0: begin with the objects that exist
	Rows      bool   // pods without their templates
	Stale     bool   // begin with what the master that answers knows, which may be behind
}

// Watch follows changes until ctx ends or each returns an error, which it then
// returns. It reconnects by itself, elsewhere if need be, and goes on after the
// last index; when that is too old it hands over a WatchReset and then the
// objects that exist, as creates, and WatchSynced. It gives up, with the error,
// only on what another try cannot cure.
func (c *Client) Watch(ctx context.Context, o WatchOptions, each func(object.WatchEvent) error) error {
	began, pause := o.Since != 0, 50*time.Millisecond
	for {
		if o.Since == 0 {
			// What is only half listed cannot be resumed: until WatchSynced every
			// connection begins anew.
			if began {
				if err := each(object.WatchEvent{Op: object.WatchReset}); err != nil {
					return err
				}
			}
			began = true
		}
		synced := o.Since != 0
		var own error // of each
		err := c.watch(ctx, o, func(e object.WatchEvent) error {
			pause = 50 * time.Millisecond
			if e.Op == object.WatchSynced {
				synced = true
			}
			if own = each(e); own != nil {
				return own
			}
			if synced {
				o.Since = max(o.Since, whole(e))
			}
			return nil
		})
		switch {
		case own != nil:
			return own
		case ctx.Err() != nil:
			return ctx.Err()
		case object.IsCode(err, object.CodeGone):
			o.Since = 0
		case !again(err) && !object.IsCode(err, object.CodeTimeout):
			return err
		}
		t := time.NewTimer(pause/2 + rand.N(pause)) // thousands of watches end together when a master does
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		pause = min(pause*2, 5*time.Second)
	}
}

// whole is the index up to which nothing is missing after a line: one entry of
// the log may be many lines, and only a synced or bookmark line ends it.
func whole(e object.WatchEvent) uint64 {
	if e.Op == object.WatchSynced || e.Op == object.WatchBookmark || e.Index == 0 {
		return e.Index
	}
	return e.Index - 1
}

// silence is how long a watch may say nothing; the masters send bookmarks more often.
const silence = 45 * time.Second

// watch is one connection's part of a watch.
func (c *Client) watch(ctx context.Context, o WatchOptions, each func(object.WatchEvent) error) error {
	q := ListOptions{Stack: o.Stack, Labels: o.Labels, Node: o.Node, Rows: o.Rows}.query()
	var kinds []string
	for _, k := range o.Kinds {
		kinds = append(kinds, string(k))
	}
	for k, v := range map[string]string{"kinds": strings.Join(kinds, ","), "namespace": o.Namespace, "name": o.Name} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if o.Stale {
		q.Set("stale", "true")
	}
	if o.Since != 0 {
		q.Set("since", strconv.FormatUint(o.Since, 10))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/watch", query: q})
	if err != nil {
		return err
	}
	defer r.Body.Close()
	// A master that vanished without a word must not hold the watch for ever.
	silent := time.AfterFunc(silence, cancel)
	defer silent.Stop()
	lines := json.NewDecoder(bufio.NewReaderSize(r.Body, 64<<10))
	for {
		var e object.WatchEvent
		if err := lines.Decode(&e); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return object.Errorf(object.CodeUnavailable, object.Ref{}, "the watch broke off: %w", err)
		}
		silent.Reset(silence)
		if e.Op == object.WatchError && e.Error != nil {
			return e.Error
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

// WaitFor follows one object until done says so and returns it then. A nil
// object means that it does not exist.
func (c *Client) WaitFor(ctx context.Context, r object.Ref, done func(object.Object) (bool, error)) (object.Object, error) {
	stop := errors.New("done")
	var last object.Object
	err := c.Watch(ctx, WatchOptions{Kinds: []object.Kind{r.Kind}, Namespace: r.Namespace, Name: r.Name}, func(e object.WatchEvent) error {
		switch e.Op {
		case object.WatchReset:
			last = nil
			return nil
		case object.WatchBookmark:
			return nil
		case object.WatchSynced:
			if last != nil {
				return nil // it has been looked at
			}
		case object.WatchDelete:
			last = nil
		default:
			last = e.Object.Object
		}
		ok, err := done(last)
		if err != nil {
			return err
		}
		if ok {
			return stop
		}
		return nil
	})
	if errors.Is(err, stop) {
		return last, nil
	}
	return last, err
}
