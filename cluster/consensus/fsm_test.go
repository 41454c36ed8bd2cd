package consensus

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthdev/berth/cluster/object"
)

var discard = slog.New(slog.DiscardHandler)

func throughSnapshot(t *testing.T, f *fsm) *fsm {
	t.Helper()
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.(*image).write(&b); err != nil {
		t.Fatal(err)
	}
	g := newFSM(10, f.fail)
	if err := g.Restore(io.NopCloser(&b)); err != nil {
		t.Fatal(err)
	}
	return g
}

// A master that cannot read an entry must stop, not go on without it.
func TestUnreadableEntryStopsTheMaster(t *testing.T) {
	good, _ := encodeChangeset(&object.Changeset{Author: "x", Changes: create(configMap("a", "1")).Changes})
	flipped := batchEntry([][]byte{good})
	flipped[20] ^= 1
	newer := batchEntry([][]byte{good})
	newer[0] = 9
	for name, data := range map[string][]byte{"damaged": flipped, "newer": newer, "empty": nil, "strange": seal(newEntry('?', 0)), "nonsense": batchEntry([][]byte{{1, 2, 3}})} {
		t.Run(name, func(t *testing.T) {
			var failed error
			f := newFSM(10, func(err error) { failed = err })
			f.Apply(&raft.Log{Index: 7, Data: data})
			if failed == nil {
				t.Fatal("it went on")
			}
			f.Apply(&raft.Log{Index: 8, Data: batchEntry([][]byte{good})})
			if f.store.Load().Snapshot().Count(object.KindConfigMap) != 0 {
				t.Fatal("it applied a later entry")
			}
			if _, err := f.Snapshot(); err == nil {
				t.Fatal("it made a snapshot of a state that is not the others'")
			}
		})
	}
}

// What is left out of an entry is what Apply does not read.
func TestSlimEntriesMeanTheSame(t *testing.T) {
	pod := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "d", Name: "p", Labels: map[string]string{"a": "b"}, Version: 3, ChangedBy: "me", CreatedAt: time.Unix(1, 0)},
		Spec: object.PodSpec{Template: "t", Node: "n1"}, Status: object.PodStatus{Phase: object.PodRunning, Address: "10.0.0.1"}}
	for _, c := range []struct {
		op   object.Op
		part object.Part
	}{{object.OpCreate, ""}, {object.OpUpdate, object.PartSpec}, {object.OpUpdate, ""}, {object.OpUpdate, object.PartStatus}} {
		s := slimObject(pod, c.op, c.part).(*object.Pod)
		status := c.op == object.OpCreate || c.part == object.PartStatus
		spec := c.part != object.PartStatus
		if (s.Spec.Node == "n1") != spec || (s.Labels != nil) != spec || (s.Status.Address != "") != status || s.Version != 0 || s.Ref() != pod.Ref() {
			t.Errorf("%s %s: %+v", c.op, c.part, s)
		}
	}
	if pod.Version != 3 || pod.Spec.Node == "" {
		t.Error("the proposer's object was changed")
	}
}
