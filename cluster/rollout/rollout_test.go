package rollout

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestNext(t *testing.T) {
	set := func(size, available int) Set { return Set{Size: size, Pods: size, Available: available} }
	for _, c := range []struct {
		name string
		in   Input
		want Step
	}{
		{"first version", Input{Want: 4, Surge: 1}, Step{New: 4, Changed: true}},
		{"surge first", Input{Want: 4, Surge: 1, Old: []Set{set(4, 4)}}, Step{New: 1, Old: []int{4}, Changed: true}},
		{"waits for the new pod", Input{Want: 4, Surge: 1, New: set(1, 0), Old: []Set{set(4, 4)}}, Step{New: 1, Old: []int{4}}},
		{"one goes when one is there", Input{Want: 4, Surge: 1, New: set(1, 1), Old: []Set{set(4, 4)}}, Step{New: 1, Old: []int{3}, Changed: true}},
		{"up and down in one step", Input{Want: 4, Surge: 1, Unavailable: 1, Old: []Set{set(4, 4)}}, Step{New: 1, Old: []int{3}, Changed: true}},
		{"both zero count as surge 1", Input{Want: 2, Old: []Set{set(2, 2)}}, Step{New: 1, Old: []int{2}, Changed: true}},
		{"broken old pods go at once", Input{Want: 4, Surge: 4, New: set(4, 0), Old: []Set{set(4, 0)}}, Step{New: 4, Old: []int{4}}},
		{"broken old pods go when new ones work", Input{Want: 4, Surge: 2, New: set(2, 2), Old: []Set{set(4, 2)}}, Step{New: 2, Old: []int{2}, Changed: true}},
		{"back: the good ones stay, the bad ones go", Input{Want: 4, Surge: 1, New: set(4, 4), Old: []Set{set(1, 0)}}, Step{New: 4, Old: []int{0}, Changed: true}},
		{"oldest first", Input{Want: 4, Surge: 2, New: set(2, 2), Old: []Set{set(2, 2), set(2, 2)}}, Step{New: 2, Old: []int{2, 0}, Changed: true}},
		{"done", Input{Want: 2, Surge: 1, New: set(2, 2), Old: []Set{set(0, 0)}}, Step{New: 2, Old: []int{0}, Done: true}},
		{"scaled in place", Input{Want: 6, Surge: 1, Scaled: true, New: set(4, 4)}, Step{New: 6, Changed: true}},
		{"scaled down", Input{Want: 1, Surge: 1, Scaled: true, New: set(4, 4)}, Step{New: 1, Changed: true}},
		{"scaled and rolled at once makes no old pods", Input{Want: 10, Surge: 2, Scaled: true, Old: []Set{set(4, 4)}}, Step{New: 8, Old: []int{4}, Changed: true}},
		{"scaled up half way", Input{Want: 20, Surge: 5, Scaled: true, New: set(5, 5), Old: []Set{set(5, 5)}}, Step{New: 13, Old: []int{12}, Changed: true}},
		{"scaled down half way keeps what works", Input{Want: 4, Surge: 1, Scaled: true, New: set(5, 0), Old: []Set{set(5, 5)}}, Step{New: 1, Old: []int{4}, Changed: true}},
		{"paused", Input{Want: 4, Surge: 1, Paused: true, New: set(1, 1), Old: []Set{set(4, 4)}}, Step{New: 1, Old: []int{4}}},
		{"paused and scaled", Input{Want: 8, Surge: 2, Paused: true, Scaled: true, Old: []Set{set(4, 4)}}, Step{Old: []int{8}, Changed: true}},
		{"recreate stops first", Input{Want: 3, Recreate: true, Old: []Set{set(3, 3)}}, Step{Old: []int{0}, Changed: true}},
		{"recreate waits for the last to end", Input{Want: 3, Recreate: true, Old: []Set{{Stopping: 1}}}, Step{Old: []int{0}}},
		{"recreate starts", Input{Want: 3, Recreate: true, Old: []Set{{}}}, Step{New: 3, Old: []int{0}, Changed: true}},
		{"to nothing", Input{Want: 0, Surge: 1, Old: []Set{set(3, 3)}}, Step{Old: []int{0}, Changed: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Next(c.in); got.New != c.want.New || !slices.Equal(got.Old, c.want.Old) || got.Changed != c.want.Changed || got.Done != c.want.Done {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// world is a cluster reduced to counts. Versions follow one another; the last is
// the wanted one.
type world struct {
	want, surge, unavailable int
	recreate                 bool
	canary                   bool
	target                   int
	sized                    int
	sets                     []*Set // oldest first
}

func (w *world) input() Input {
	in := Input{Want: w.want, Surge: w.surge, Unavailable: w.unavailable, Recreate: w.recreate, Scaled: w.sized != w.want}
	in.Canary, in.Target = w.canary, w.target
	in.New = *w.sets[len(w.sets)-1]
	for i := len(w.sets) - 2; i >= 0; i-- {
		in.Old = append(in.Old, *w.sets[i])
	}
	return in
}

func (w *world) obey(s Step) {
	w.sized = w.want
	w.sets[len(w.sets)-1].Size = s.New
	for i, n := range s.Old {
		w.sets[len(w.sets)-2-i].Size = n
	}
}

func (w *world) pods() (pods, available int) {
	for _, s := range w.sets {
		pods += s.Pods
		available += s.Available
	}
	return pods, available
}

// act lets one set do some of what it has been told, or its pods some of what
// pods do. broken versions never become available.
func (w *world) act(t *rapid.T, i int, broken bool) {
	s := w.sets[i]
	switch {
	case s.Pods > s.Size:
		n := rapid.IntRange(1, s.Pods-s.Size).Draw(t, "stop")
		unavailable := s.Pods - s.Available
		s.Pods -= n
		s.Stopping += n
		s.Available -= max(0, n-unavailable)
	case s.Pods < s.Size:
		s.Pods += rapid.IntRange(1, s.Size-s.Pods).Draw(t, "start")
	case s.Available < s.Pods && !broken:
		s.Available += rapid.IntRange(1, s.Pods-s.Available).Draw(t, "ready")
	case s.Stopping > 0:
		s.Stopping--
	}
}

func drawWorld(t *rapid.T) *world {
	w := &world{
		want: rapid.IntRange(0, 12).Draw(t, "want"), surge: rapid.IntRange(0, 4).Draw(t, "surge"),
		unavailable: rapid.IntRange(0, 4).Draw(t, "unavailable"), recreate: rapid.IntRange(0, 4).Draw(t, "recreate") == 0,
		sets: []*Set{{}},
	}
	w.sized = w.want
	return w
}

func TestNeverTooManyNeverTooFew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		broken := map[int]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "moves") {
			switch rapid.IntRange(0, 9).Draw(t, "move") {
			case 0:
				if len(w.sets) < 5 {
					broken[len(w.sets)] = rapid.Bool().Draw(t, "broken")
					w.sets = append(w.sets, &Set{})
				}
			case 1:
				if len(w.sets) > 1 { // back to the version before
					last := len(w.sets) - 1
					w.sets[last], w.sets[last-1] = w.sets[last-1], w.sets[last]
					broken[last], broken[last-1] = broken[last-1], broken[last]
				}
			case 2:
				w.want = rapid.IntRange(0, 12).Draw(t, "scale")
			case 3:
				w.canary, w.target = rapid.Bool().Draw(t, "canary"), rapid.IntRange(0, 14).Draw(t, "target")
			case 4, 5:
				w.check(t)
			default:
				i := rapid.IntRange(0, len(w.sets)-1).Draw(t, "set")
				w.act(t, i, broken[i])
			}
		}
		// Whatever has happened, a version that works gets there, in boundedly many steps.
		broken[len(w.sets)-1] = false
		w.canary = false
		for n := 0; ; n++ {
			if n > 500 {
				t.Fatalf("no end: %s", w)
			}
			step := w.check(t)
			if step.Done {
				break
			}
			for i := range w.sets {
				for range 3 {
					w.act(t, i, broken[i])
				}
			}
		}
		if pods, available := w.pods(); pods != w.want || available != w.want {
			t.Fatalf("ended with %d pods, %d available of %d", pods, available, w.want)
		}
	})
}

// check takes a step and holds it against the promises, for the worst order in
// which the sets can carry it out.
func (w *world) check(t *rapid.T) Step {
	in := w.input()
	before, ready := 0, 0
	for _, s := range w.sets {
		before += max(s.Size, s.Pods)
		ready += min(s.Available, s.Size)
	}
	step := Next(in)
	w.obey(step)
	most, least := 0, 0
	for _, s := range w.sets {
		most += max(s.Size, s.Pods)
		least += min(s.Available, s.Size)
	}
	surge, unavailable := Limits(w.want, w.surge, w.unavailable)
	if w.recreate {
		if old := len(in.Old) > 0 && slices.ContainsFunc(in.Old, func(s Set) bool { return s.Pods+s.Stopping > 0 }); old && step.New > in.New.Size {
			t.Fatalf("new pods beside old ones: %+v -> %+v", in, step)
		}
		return step
	}
	if most > max(before, w.want+surge) {
		t.Fatalf("%d pods, at most %d: %+v -> %+v", most, w.want+surge, in, step)
	}
	if least < min(ready, w.want-unavailable) {
		t.Fatalf("%d available, at least %d: %+v -> %+v", least, w.want-unavailable, in, step)
	}
	return step
}

// TestCanaryKeepsTheOldSet: a canary that works reaches its target and no more, and
// the old version keeps what the surge leaves it; going back ends with the old one.
func TestCanaryKeepsTheOldSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.recreate, w.want = false, rapid.IntRange(1, 12).Draw(t, "pods")
		w.sized, w.canary, w.target = w.want, true, rapid.IntRange(1, w.want).Draw(t, "target")
		w.sets = []*Set{{Size: w.want, Pods: w.want, Available: w.want}, {}}
		for range 200 { // far more than it takes
			w.check(t)
			for i := range w.sets {
				w.act(t, i, false)
			}
		}
		surge, _ := Limits(w.want, w.surge, w.unavailable)
		if old, now := w.sets[0].Available, w.sets[1].Available; now != w.target || old < min(w.want, w.want+surge-w.target) {
			t.Fatalf("%d new and %d old: %s", now, old, w)
		}
		w.canary = false
		w.sets[0], w.sets[1] = w.sets[1], w.sets[0]
		for n := 0; !w.check(t).Done; n++ {
			if n > 500 {
				t.Fatalf("no way back: %s", w)
			}
			for i := range w.sets {
				w.act(t, i, false)
			}
		}
		if w.sets[1].Available != w.want || w.sets[0].Pods != 0 {
			t.Fatalf("not back: %s", w)
		}
	})
}

func (w *world) String() string {
	s := fmt.Sprintf("want %d surge %d unavailable %d recreate %v:", w.want, w.surge, w.unavailable, w.recreate)
	for _, x := range w.sets {
		s += fmt.Sprintf(" %+v", *x)
	}
	return s
}

func BenchmarkNext(b *testing.B) {
	in := Input{Want: 1000, Surge: 250, New: Set{Size: 250, Pods: 250, Available: 200}, Old: []Set{{Size: 1000, Pods: 1000, Available: 1000}}}
	for b.Loop() {
		Next(in)
	}
}
