package master

import (
	"slices"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func TestBehind(t *testing.T) {
	node := func(name string, c object.NodeCondition) object.Object {
		return &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name}, Status: object.NodeStatus{Condition: c}}
	}
	v := state.Load(1, []object.Object{node("behind", object.NodeReady), node("lost", object.NodeLost), node("plain", object.NodeReady),
		node("there", object.NodeReady), node("unheard", object.NodeReady), node("unwell", object.NodeNotReady)}).Snapshot()
	b := beats{heard: map[string]beat{}}
	now := time.Now()
	for name, applied := range map[string]uint64{"behind": 9, "lost": 3, "plain": 0, "there": 10, "unwell": 9} {
		b.hear(name, applied, now)
	}
	got, heard := b.behind(v, 10)
	if want := []string{"behind", "unheard", "unwell"}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	b.hear("behind", 9, now)
	select {
	case <-heard:
		t.Error("woken by a report that says nothing new")
	default:
	}
	for _, name := range got {
		b.hear(name, 11, now)
	}
	select {
	case <-heard:
	default:
		t.Error("not woken")
	}
	if got, _ = b.behind(v, 10); len(got) != 0 {
		t.Errorf("still waiting for %v", got)
	}
}
