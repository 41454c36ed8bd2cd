package rollout

import "slices"

// Set counts the pods of one version. A set that is made smaller gives up pods
// that are not available first.
type Set struct {
	Size      int // pods it has been told to keep
	Pods      int // pods that are there and not asked to stop
	Available int // of Pods: ready for long enough
	Stopping  int // pods that were asked to stop and have not ended yet
}

// Input is where an update stands.
type Input struct {
	Want        int  // pods in the end
	Surge       int  // pods that may run beyond Want
	Unavailable int  // available pods that may be missing from Want
	Recreate    bool // stop all old pods before the first new one starts
	Paused      bool // keep the versions as they are; only follow Want
	Scaled      bool // Want is another number than the sets were last sized for
	Canary      bool // stop at Target pods of the new version; old ones stay as far as Surge allows
	Target      int
	Hold        bool // with Canary: old pods go as new ones take their place, up to Target
	Keep        bool // old pods stay, and the update is done without their end
	Zone        *Zone
	New         Set
	Old         []Set // newest first
}

// Step is how large each set should be now.
type Step struct {
	New     int
	Old     []int // in the order of Input.Old
	Changed bool  // some size differs from what it is
	Zone    int   // with Input.Zone: of New, the pods in the zone
	Done    bool  // nothing is left to do: Want pods of the new version are available, and no others are there
}

// Limits makes surge and unavailable usable: not negative, and with neither of
// them no update could take its first step, so that surge becomes 1.
func Limits(want, surge, unavailable int) (int, int) {
	surge, unavailable = max(surge, 0), min(max(unavailable, 0), max(want, 0))
	if surge == 0 && unavailable == 0 {
		surge = 1
	}
	return surge, unavailable
}

// Next is the next step. Carrying it out, in any order among the sets, never
// makes more than Want+Surge pods and never leaves fewer than Want-Unavailable
// available, unless it was so before; what it does not forbid happens at once.
// It always comes to an end if the new pods become available. Going back is the
// same thing with the versions exchanged: available pods of the version gone
// back to are kept.
func Next(in Input) Step {
	in.Want = max(in.Want, 0)
	in.Surge, in.Unavailable = Limits(in.Want, in.Surge, in.Unavailable)
	p := plan{Input: in, size: []int{in.New.Size}, sets: []Set{in.New}}
	for _, s := range in.Old {
		p.size, p.sets = append(p.size, s.Size), append(p.sets, s)
	}
	active := 0
	for _, n := range p.size {
		if n > 0 {
			active++
		}
	}
	switch {
	case in.Keep && !in.Paused:
		p.size[0] = in.Want
	case in.Recreate && !in.Paused:
		p.recreate()
	case active <= 1 && in.Paused:
		p.follow()
	case in.Scaled && active > 1 && (in.Paused || in.New.Size > 0):
		p.proportional()
	case in.Zone != nil && !in.Paused:
		p.zoned()
	case !in.Paused:
		p.rolling()
	}
	out := Step{New: p.size[0], Old: p.size[1:]}
	if in.Zone != nil {
		out.Zone = in.Zone.New + p.grown
	}
	out.Done = out.New == in.Want && in.New.Pods == in.Want && in.New.Available >= in.Want
	for i, s := range p.sets {
		out.Changed = out.Changed || p.size[i] != s.Size
		if i > 0 && (s.Size > 0 || s.Pods > 0) && !in.Keep {
			out.Done = false
		}
	}
	out.Done = out.Done && !out.Changed
	return out
}

// plan is a step in the making; index 0 is the new version.
type plan struct {
	Input
	size  []int
	sets  []Set
	grown int // new pods in the zone
}

// floor is how many available pods must be left.
func (p *plan) floor() int { return p.Want - p.Unavailable }

func (p *plan) recreate() {
	gone := true
	for i := 1; i < len(p.sets); i++ {
		p.size[i] = 0
		gone = gone && p.sets[i].Pods == 0 && p.sets[i].Stopping == 0
	}
	if gone || p.size[0] > p.Want {
		p.size[0] = p.Want
	}
}

// follow sizes the only version that has pods while the update is paused, the
// new one if none has.
func (p *plan) follow() {
	i := max(slices.IndexFunc(p.size, func(n int) bool { return n > 0 }), 0)
	p.size[i] = p.Want
}

func (p *plan) rolling() {
	p.size[0] = min(p.size[0], p.Want)
	target, keep := p.Want, 0
	if p.Canary {
		target = min(max(p.Target, p.size[0], 0), p.Want)
		if keep = min(p.Want, p.Want+p.Surge-target); p.Hold {
			keep = p.Want - target
		}
		p.restore(keep)
	}
	// A set that has been made smaller may not have given its pods up yet, and one
	// that has been made larger will have them soon: both count.
	there := 0
	for i, s := range p.sets {
		there += max(p.size[i], s.Pods)
	}
	if room := p.Want + p.Surge - there; room > 0 {
		p.size[0] += min(room, target-p.size[0])
	}

	available, total := 0, 0
	for i, s := range p.sets {
		available += min(s.Available, p.size[i])
		total += p.size[i]
	}
	// Old pods that are not available go first, oldest version first: they serve
	// nobody. But only as many as leave enough pods that work or may come back,
	// for the new ones that are not available have yet to prove themselves.
	budget := total - p.floor() - (p.size[0] - min(p.New.Available, p.size[0]))
	budget = min(budget, total-p.size[0]-keep)
	for i := len(p.sets) - 1; i > 0 && budget > 0; i-- {
		n := min(p.size[i]-min(p.sets[i].Available, p.size[i]), budget)
		p.size[i] -= n
		budget -= n
	}
	spare := available - p.floor()
	for i := len(p.sets) - 1; i > 0 && spare > 0 && budget > 0; i-- {
		n := min(min(p.sets[i].Available, p.size[i]), spare, budget)
		p.size[i] -= n
		spare -= n
		budget -= n
	}
}

// restore gives the newest old version that has pods what the old ones lack of
// keep: a canary leaves them most of the work.
func (p *plan) restore(keep int) {
	old, newest := 0, 0
	for i := 1; i < len(p.size); i++ {
		old += p.size[i]
		if newest == 0 && p.size[i] > 0 {
			newest = i
		}
	}
	if newest == 0 || old >= keep {
		return
	}
	grow := min(keep-old, p.Want+p.Surge-p.there())
	p.size[newest] += max(grow, 0)
}

// proportional follows a new Want in the middle of an update: every version
// grows or shrinks by its share, so that an unproven version does not take all of
// the growth, and a shrinking does not decide the update.
func (p *plan) proportional() {
	total, available := 0, 0
	for i, s := range p.sets {
		total += p.size[i]
		available += min(s.Available, p.size[i])
	}
	limit := p.Want
	if p.Want > 0 {
		limit += p.Surge
	}
	share(p.size, total, limit)
	// Shares know nothing of availability: move size from what is not available
	// to what is until nothing is lost that the floor forbids to lose.
	floor := min(p.floor(), available)
	for {
		kept, give, take := 0, -1, -1
		for i, s := range p.sets {
			kept += min(s.Available, p.size[i])
			if p.size[i] < min(s.Available, s.Size) && take < 0 {
				take = i
			}
			if p.size[i] > s.Available {
				give = i
			}
		}
		if kept >= floor || take < 0 {
			break
		}
		if give >= 0 {
			p.size[give]--
		}
		p.size[take]++
	}
	// Pods of sets that have not given theirs up yet leave less room to grow.
	excess := p.there() - limit
	for i := len(p.sets) - 1; i >= 0 && excess > 0; i-- {
		if grown := p.size[i] - max(p.sets[i].Size, p.sets[i].Pods); grown > 0 {
			n := min(grown, excess)
			p.size[i] -= n
			excess -= n
		}
	}
}

func (p *plan) there() int {
	n := 0
	for i, s := range p.sets {
		n += max(p.size[i], s.Pods)
	}
	return n
}

// share scales sizes that sum to total so that they sum to limit; what rounding
// leaves over goes to the largest remainders, newer versions first among equals.
func share(size []int, total, limit int) {
	if total == 0 {
		return
	}
	rest := limit
	order := make([]int, len(size))
	remainder := make([]int, len(size))
	for i, n := range size {
		order[i], remainder[i] = i, n*limit%total
		size[i] = n * limit / total
		rest -= size[i]
	}
	slices.SortStableFunc(order, func(a, b int) int { return remainder[b] - remainder[a] })
	for _, i := range order[:rest] {
		size[i]++
	}
}
