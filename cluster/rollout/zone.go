package rollout

// Zone is the part of an update that may change while it goes zone by zone: the
// sizes that the sets have in the zone whose turn it is. Pods elsewhere stay; they
// count for what may run and for what must be available.
type Zone struct {
	New   int    // of Input.New.Size
	Old   []Part // in the order of Input.Old
	Later int    // pods of Want that are made elsewhere, later; less than 0: pods beyond Want that stay until then
}

// Part is what one old version has in the zone.
type Part struct {
	Size      int // of Set.Size: what may be given up
	Available int // of Size
}

// zoned is rolling within the zone. It gets as many new pods as it has old ones to
// be replaced, and what the whole lacks: a scaling, or an old pod that found no
// place, need not wait for the end. Surge and floor are those of the whole.
func (p *plan) zoned() {
	z, old, total := p.Zone, 0, 0
	p.Want -= z.Later // by value: the step is done when the real one is reached
	for _, x := range z.Old {
		old += x.Size
	}
	for _, n := range p.size {
		total += n
	}
	grow := max(0, min(p.Want+p.Surge-p.there(), old+p.Want-total))
	p.size[0] += grow
	p.grown = grow
	total += grow

	available := 0
	for i, s := range p.sets {
		available += min(s.Available, p.size[i])
	}
	// As in rolling: first what serves nobody, as far as enough is left that may come
	// back, then what is available and can be spared; oldest version first.
	budget := total - p.floor() - (p.size[0] - min(p.New.Available, p.size[0]))
	left := make([]int, len(z.Old))
	for i := len(z.Old) - 1; i >= 0; i-- {
		left[i] = min(z.Old[i].Available, z.Old[i].Size)
		n := max(0, min(z.Old[i].Size-left[i], budget))
		p.size[i+1] -= n
		budget -= n
	}
	spare := available - p.floor()
	for i := len(z.Old) - 1; i >= 0; i-- {
		n := max(0, min(left[i], spare, budget))
		p.size[i+1] -= n
		spare -= n
		budget -= n
	}
}
