package state

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func filled(b *testing.B, pods int) *Store {
	s := New()
	for i := 0; i < pods; i += 1000 {
		c := object.Changeset{Author: "bench"}
		for j := i; j < min(i+1000, pods); j++ {
			c.Create(&object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: fmt.Sprintf("web-%06d", j), Labels: map[string]string{"app": "web"},
				Owner: object.Ref{Kind: object.KindReplicaSet, Namespace: "default", Name: "web"}},
				Spec: object.PodSpec{Template: "t", Node: fmt.Sprintf("node-%04d", j%5000), CPU: 100, Memory: 64 << 20}})
		}
		if _, err := s.Apply(uint64(i+1), c); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func BenchmarkFork100k(b *testing.B) {
	v := filled(b, 100_000).Snapshot()
	for b.Loop() {
		v.Fork()
	}
}

func BenchmarkStatusReport100k(b *testing.B) {
	s := filled(b, 100_000)
	ref := object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-050000"}
	index := s.Snapshot().Index()
	for b.Loop() {
		p, _ := Find[*object.Pod](s.Snapshot(), ref)
		n := p.Clone().(*object.Pod)
		n.Status.Phase = object.PodRunning
		c := object.Changeset{Author: "node/n"}
		c.UpdateStatus(p, n)
		index++
		if _, err := s.Apply(index, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode100k(b *testing.B) {
	v := filled(b, 100_000).Snapshot()
	for b.Loop() {
		if err := Encode(io.Discard, v, each); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode100k(b *testing.B) {
	var buf bytes.Buffer
	if err := Encode(&buf, filled(b, 100_000).Snapshot(), each); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(buf.Len()))
	for b.Loop() {
		if _, err := Decode(bytes.NewReader(buf.Bytes()), each); err != nil {
			b.Fatal(err)
		}
	}
}
