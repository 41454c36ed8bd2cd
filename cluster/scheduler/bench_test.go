package scheduler

import (
	"fmt"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func benchNodes(n int) []*object.Node {
	var nodes []*object.Node
	for i := range n {
		nodes = append(nodes, testNode(fmt.Sprintf("n%05d", i), string(rune('a'+i%3)), 64_000, 256<<30))
		nodes[i].Status.Pods = 1000
	}
	return nodes
}

// BenchmarkKernel places a million pods of 100 classes on 10,000 nodes.
func BenchmarkKernel(b *testing.B) {
	for _, classes := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("classes=%d", classes), func(b *testing.B) {
			policy, nodes := SpreadPolicy(), benchNodes(10_000)
			for b.Loop() {
				k := newKernel(&policy, nodes)
				t := &object.PodTemplate{}
				for i := range classes {
					c := k.class(testPod(fmt.Sprint("s", i), fmt.Sprint("s", i), map[string]string{"app": "x"}, object.CPU(100+i%7*10), 256<<20), t)
					for range 1_000_000 / classes {
						n, _ := k.best(c)
						k.bind(c, n)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/placement")
		})
	}
}

// BenchmarkShapes places one pod of each of 10,000 shapes on 5,000 nodes: no
// two pods have a tree in common.
func BenchmarkShapes(b *testing.B) {
	policy, nodes := SpreadPolicy(), benchNodes(5_000)
	for b.Loop() {
		k := newKernel(&policy, nodes)
		t := &object.PodTemplate{}
		for i := range 10_000 {
			c := k.class(testPod(fmt.Sprint("s", i), fmt.Sprint("s", i), nil, object.CPU(100+i), 1<<20), t)
			n, _ := k.best(c)
			k.bind(c, n)
		}
	}
}

func benchWorld(b *testing.B, nodes, sets, pods int) *world {
	w := newWorld(b)
	for _, n := range benchNodes(nodes) {
		w.create(n)
	}
	c := object.Changeset{Author: "test", Time: t0}
	for i := range sets {
		set := fmt.Sprintf("set%05d", i)
		c.Create(template(set, object.PodTemplate{Labels: map[string]string{"app": set}, Containers: []object.Container{{Name: "c", Image: "image:" + set}}}))
		for j := range pods / sets {
			p := testPod(set, fmt.Sprintf("%s-%d", set, j), map[string]string{"app": set}, object.CPU(100), 64<<20)
			c.Create(p)
		}
	}
	w.apply(c)
	return w
}

// BenchmarkPlace is one round over a snapshot that the scheduler has not seen.
func BenchmarkPlace(b *testing.B) {
	for _, sets := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("pods=10000/nodes=5000/sets=%d", sets), func(b *testing.B) {
			w := benchWorld(b, 5_000, sets, 10_000)
			for b.Loop() {
				if r := New(SpreadPolicy()).Place(w.v(), t0, 0); len(r.Placed) != 10_000 {
					b.Fatal(len(r.Placed))
				}
			}
		})
	}
}

// BenchmarkFirst is the first round of a new leader: 100,000 pods of 1,000 sets
// are bound already, one waits.
func BenchmarkFirst(b *testing.B) {
	w := benchWorld(b, 5_000, 1_000, 100_000)
	w.apply(New(SpreadPolicy()).Place(w.v(), t0, 0).Changes)
	w.create(testPod("set00007", "one-more", map[string]string{"app": "set00007"}, 100, 64<<20))
	for b.Loop() {
		if r := New(SpreadPolicy()).Place(w.v(), t0, 0); len(r.Placed) != 1 {
			b.Fatal(len(r.Placed))
		}
	}
}

// BenchmarkPlaceNext is a step of a rollout: one scheduler, four pods more each
// time, on 5,000 nodes that hold 10,000. Only Place is measured.
func BenchmarkPlaceNext(b *testing.B) {
	w := benchWorld(b, 5_000, 100, 10_000)
	s := New(SpreadPolicy())
	w.apply(s.Place(w.v(), t0, 0).Changes)
	i := 0
	for b.Loop() {
		b.StopTimer()
		c := object.Changeset{Author: "test", Time: t0}
		for range 4 {
			i++
			c.Create(testPod("set00007", fmt.Sprintf("more-%d", i), map[string]string{"app": "set00007"}, 100, 64<<20))
		}
		w.apply(c)
		b.StartTimer()
		r := s.Place(w.v(), t0, 0)
		if len(r.Placed) != 4 {
			b.Fatal(len(r.Placed))
		}
		b.StopTimer()
		w.apply(r.Changes)
		b.StartTimer()
	}
}
