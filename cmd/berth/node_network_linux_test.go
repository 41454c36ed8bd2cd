package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// office is masters that give a node a range after some questions.
type office struct {
	away    bool
	gives   string // the node's range
	after   int    // questions before it is given
	waiting int
	reports []object.Report
}

func (o *office) Report(_ context.Context, r object.Report) (object.ReportAnswer, error) {
	if o.away {
		return object.ReportAnswer{}, errors.New("nobody answers")
	}
	s := *r.Status
	r.Status = &s
	o.reports = append(o.reports, r)
	return object.ReportAnswer{}, nil
}

func (o *office) Get(_ context.Context, r object.Ref) (object.Object, error) {
	switch {
	case o.away:
		return nil, errors.New("nobody answers")
	case r.Kind == object.KindNetwork:
		n, err := object.FoundNetwork(object.NetworkSpec{})
		n.Status.Waiting = o.waiting
		return n, err
	case len(o.reports) == 0 && o.after > 0:
		return nil, object.Errorf(object.CodeNotFound, r, "does not exist")
	}
	n := &object.Node{}
	if o.after--; o.after < 0 {
		n.Spec.PodRange, o.waiting = o.gives, 0
	}
	return n, nil
}

func TestANodeGetsItsRange(t *testing.T) {
	c := &NodeRunCmd{Name: "n1", Data: t.TempDir(), Label: map[string]string{"zone": "a"}}
	status := func(podRange string) (object.NodeStatus, error) { return object.NodeStatus{PodRange: podRange}, nil }
	start := func(o *office) nodeNetwork {
		t.Helper()
		n, err := c.nodeNetwork(t.Context(), slog.New(slog.DiscardHandler), o, status)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	want := func(what string, got nodeNetwork, r string) {
		t.Helper()
		if got.Range != netip.MustParsePrefix(r) || got.Network.Services != object.ServicesDefault {
			t.Errorf("%s: %s of %+v, want %s", what, got.Range, got.Network, r)
		}
	}
	first := &office{gives: "10.78.3.0/24", after: 2, waiting: 1}
	want("the first time", start(first), "10.78.3.0/24")
	var said []string
	for _, r := range first.reports {
		if r.Status.Condition != object.NodeNotReady || r.Labels["zone"] != "a" {
			t.Errorf("reported %+v", r)
		}
		said = append(said, r.Status.Message)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "waits for its pod range") || !strings.Contains(text, "no pod range is left: all /24 of 10.78.0.0/16 are taken or held") {
		t.Errorf("said %q", said)
	}
	want("while the masters are away", start(&office{away: true}), "10.78.3.0/24")
	want("again", start(&office{gives: "10.78.3.0/24"}), "10.78.3.0/24")
	want("removed meanwhile", start(&office{}), "10.78.3.0/24")
	want("another one, without pods", start(&office{gives: "10.78.4.0/24"}), "10.78.4.0/24")

	// Pods keep what they have.
	leases := filepath.Join(c.networkDir(), "addresses.json")
	if err := os.WriteFile(leases, []byte(`{"range":"10.78.4.0/24","pods":{"a":"10.78.4.2"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want("another one, with pods", start(&office{gives: "10.78.5.0/24"}), "10.78.4.0/24")

	// From before there was a file: what the pods have is told, and kept.
	if err := os.Remove(c.rangeFile()); err != nil {
		t.Fatal(err)
	}
	old := &office{gives: "10.78.4.0/24"}
	want("from an older version", start(old), "10.78.4.0/24")
	if len(old.reports) != 1 || old.reports[0].Status.PodRange != "10.78.4.0/24" {
		t.Errorf("reported %+v", old.reports)
	}

	// Asked to end while it waits.
	c.Data = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.nodeNetwork(ctx, slog.New(slog.DiscardHandler), &office{}, status); !errors.Is(err, context.Canceled) {
		t.Errorf("asked to end: %v", err)
	}
}

func TestConntrackFull(t *testing.T) {
	for _, c := range []struct {
		used, most int
		err        error
		want       string
	}{
		{94, 100, nil, ""},
		{95, 100, nil, "the kernel follows 95 connections of 100 at most"},
		{0, 0, nil, ""}, // it follows none
		{100, 100, errors.New("unreadable"), ""},
	} {
		if err := conntrackFull(c.used, c.most, c.err); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
