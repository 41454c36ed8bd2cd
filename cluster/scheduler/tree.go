package scheduler

import "math"

// none is the score of a node that does not fit.
const none = math.MinInt64

// domain is the partition of the nodes by one attribute, such as zone. Nodes
// without the attribute share the empty value.
type domain struct {
	key    string
	values map[string]int32
	of     []int32 // by node
}

// partition cuts the nodes into parts inside which every domain term is
// constant: the score of a node is then a node term, kept in a tree, plus a term
// of its part, added to the tree's root.
type partition struct {
	parts []part
	part  []int32 // by node: index into parts
	leaf  []int32 // by node: its place among the nodes of its part
	cells int     // size of the trees of all parts
	spare []forest
}

type part struct {
	nodes  []int32 // in index order, so that the leftmost of equal leaves is the lowest index
	offset int     // of the part's tree in a forest
	size   int     // leaves, a power of two
}

func newPartition(n int, domains []*domain) *partition {
	p := &partition{part: make([]int32, n), leaf: make([]int32, n)}
	at := map[string]int32{}
	key := make([]byte, 0, 4*len(domains))
	for i := range n {
		key = key[:0]
		for _, d := range domains {
			v := d.of[i]
			key = append(key, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		x, ok := at[string(key)]
		if !ok {
			x = int32(len(p.parts))
			at[string(key)] = x
			p.parts = append(p.parts, part{})
		}
		p.part[i], p.leaf[i] = x, int32(len(p.parts[x].nodes))
		p.parts[x].nodes = append(p.parts[x].nodes, int32(i))
	}
	for i := range p.parts {
		size := 1
		for size < len(p.parts[i].nodes) {
			size *= 2
		}
		p.parts[i].offset, p.parts[i].size = p.cells, size
		p.cells += 2 * size
	}
	return p
}

// forest holds a tournament tree for each part of a partition: the parent of two
// cells is the greater one. Cell 1 of a tree is its root, cells size… its leaves.
type forest []int64

// forest returns trees for the partition, new or used. Leaves that stand for no
// node are none and stay so; the others are for the caller to fill.
func (p *partition) forest() forest {
	if last := len(p.spare) - 1; last >= 0 {
		f := p.spare[last]
		p.spare = p.spare[:last]
		return f
	}
	f := make(forest, p.cells)
	for i := range f {
		f[i] = none
	}
	return f
}

// build makes every inner cell from the leaves.
func (f forest) build(p *partition) {
	for i := range p.parts {
		x := &p.parts[i]
		t := f[x.offset : x.offset+2*x.size]
		for j := x.size - 1; j > 0; j-- {
			t[j] = max(t[2*j], t[2*j+1])
		}
	}
}

// set changes a node's leaf and what follows from it.
func (f forest) set(p *partition, n int32, score int64) {
	x := &p.parts[p.part[n]]
	t := f[x.offset : x.offset+2*x.size]
	j := x.size + int(p.leaf[n])
	if t[j] == score {
		return
	}
	t[j] = score
	for j > 1 {
		m := max(t[j], t[j^1])
		j /= 2
		if t[j] == m {
			return
		}
		t[j] = m
	}
}

// first is the lowest node of a part whose leaf equals the part's root.
func (f forest) first(x *part) int32 {
	t := f[x.offset : x.offset+2*x.size]
	j := 1
	for j < x.size {
		j *= 2
		if t[j] != t[1] {
			j++
		}
	}
	return x.nodes[j-x.size]
}
