package view

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// A text in pieces is the text.
func TestSheaf(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var s sheaf
	var want []byte
	for range 500 {
		b := make([]byte, random.IntN(200)*(1+random.IntN(100)))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		want = append(want, b...)
		if random.IntN(4) == 0 {
			s = append(s, b) // a piece of somebody else's
			continue
		}
		if n, err := s.Write(b); n != len(b) || err != nil {
			t.Fatalf("%d of %d: %v", n, len(b), err)
		}
	}
	if got := bytes.Join(s, nil); !bytes.Equal(got, want) {
		t.Errorf("%d bytes are not the %d that were written", len(got), len(want))
	}
}

// The blocks of many objects, drawn several at once, are those of each, one after the other.
func TestManyBlocksAreDrawnInOrder(t *testing.T) {
	var list []object.PlannedChange
	for i := range 1000 {
		d := &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: string(rune('a'+i%26)) + string(rune('a'+i/26%26))}}
		list = append(list, object.PlannedChange{Address: d.Ref().Address(), Ref: d.Ref(), Actions: []string{object.ActionCreate}, After: object.Any{Object: d}})
	}
	var pieces sheaf
	var whole, single bytes.Buffer
	(&printer{w: &pieces}).changes(list)
	(&printer{w: &whole}).changes(list)
	one := &printer{w: &single}
	for i := range list {
		one.line()
		one.change(&list[i])
	}
	if !bytes.Equal(bytes.Join(pieces, nil), single.Bytes()) || !bytes.Equal(whole.Bytes(), single.Bytes()) {
		t.Error("the blocks are drawn otherwise")
	}
}
