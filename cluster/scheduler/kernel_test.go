package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

func testNode(name, zone string, cpu object.CPU, memory object.Bytes) *object.Node {
	n := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name, Labels: map[string]string{}}}
	if zone != "" {
		n.Labels["zone"] = zone
	}
	n.Status = object.NodeStatus{Condition: object.NodeReady, CPU: cpu, Memory: memory, Pods: 110}
	return n
}

func testPod(set, name string, labels map[string]string, cpu object.CPU, memory object.Bytes) *object.Pod {
	p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: name, Labels: labels}}
	p.Owner = object.Ref{Kind: object.KindReplicaSet, Namespace: "default", Name: set}
	p.Spec.CPU, p.Spec.Memory, p.Spec.Template = cpu, memory, set
	return p
}

// plain is the scheduler's rules once more, written as a person would: no
// classes, no counts, no trees, nothing remembered.
type plain struct {
	policy Policy
	nodes  []*object.Node
	bound  []plainPod
}

type plainPod struct {
	pod  *object.Pod
	tmpl *object.PodTemplate
	node int
}

func hostPorts(t *object.PodTemplate) map[string]bool {
	out := map[string]bool{}
	for _, c := range t.Containers {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				out[fmt.Sprint(p.Protocol, p.HostPort)] = true
			}
		}
	}
	return out
}

func attribute(n *object.Node, key string) string { v, _ := n.Attribute(key); return v }

func (w *plain) near(a *object.Avoid, x, y int) bool {
	if a.Over == "zone" {
		return attribute(w.nodes[x], "zone") == attribute(w.nodes[y], "zone")
	}
	return x == y
}

func (w *plain) score(p *object.Pod, t *object.PodTemplate, n int) (int64, bool) {
	d := demand{tolerations: t.Tolerations, taint: int64(w.policy.Taint) * 1000}
	for _, c := range t.Constraints {
		d.matchers = append(d.matchers, newMatcher(c))
	}
	score := d.eval(w.nodes[n])
	if score == none || p.Spec.Within != nil && !slices.Contains(p.Spec.Within.In, attribute(w.nodes[n], p.Spec.Within.By)) {
		return 0, false
	}
	cpu, memory, pods := p.Spec.CPU, p.Spec.Memory, 1
	for _, b := range w.bound {
		if b.node == n {
			cpu, memory, pods = cpu+b.pod.Spec.CPU, memory+b.pod.Spec.Memory, pods+1
			for port := range hostPorts(b.tmpl) {
				if hostPorts(t)[port] {
					return 0, false
				}
			}
		}
		for _, a := range t.Avoid {
			if w.near(&a, n, b.node) && object.HasLabels(b.pod.Labels, a.Labels) {
				if a.Prefer == 0 {
					return 0, false
				}
				score -= int64(a.Prefer) * 1000
			}
		}
		for _, a := range b.tmpl.Avoid {
			if a.Prefer == 0 && w.near(&a, n, b.node) && object.HasLabels(p.Labels, a.Labels) {
				return 0, false
			}
		}
		if b.pod.Owner != p.Owner {
			continue
		}
		spread := t.Spread
		if len(spread) == 0 {
			spread = []object.Spread{{Over: "zone", Weight: w.policy.SpreadZone}, {Over: "node", Weight: w.policy.SpreadNode}}
		}
		for _, s := range spread {
			if attribute(w.nodes[n], s.Over) == attribute(w.nodes[b.node], s.Over) {
				score -= int64(s.Weight) * 1000
			}
		}
	}
	has := w.nodes[n].Status
	if cpu > has.CPU || memory > has.Memory || pods > has.Pods {
		return 0, false
	}
	share := (int64(cpu)*reciprocal(int64(has.CPU))>>32 + int64(memory>>10)*reciprocal(int64(has.Memory)>>10)>>32) / 2
	return score + int64(w.policy.Free)*(1000-share) + int64(w.policy.Pack)*share, true
}

func (w *plain) best(p *object.Pod, t *object.PodTemplate) (int32, int64) {
	node, high := int32(-1), int64(none)
	for n := range w.nodes {
		if s, ok := w.score(p, t, n); ok && (node < 0 || s > high) {
			node, high = int32(n), s
		}
	}
	return node, high
}

func drawNode(t *rapid.T, i int) *object.Node {
	n := testNode(fmt.Sprintf("n%02d", i), rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "zone"),
		object.CPU(rapid.IntRange(1, 6).Draw(t, "cpus"))*1000, object.Bytes(rapid.IntRange(1, 6).Draw(t, "GiB"))<<30)
	n.Labels["rack"] = rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "rack")
	n.Labels["disk"] = rapid.SampledFrom([]string{"ssd", "hdd", "9", "1.10.2"}).Draw(t, "disk")
	n.Status.Pods = rapid.IntRange(2, 12).Draw(t, "pods")
	if rapid.IntRange(0, 5).Draw(t, "tainted") == 0 {
		n.Spec.Taints = []object.Taint{{Key: "dedicated", Value: "gpu", Effect: rapid.SampledFrom([]string{"no_schedule", "prefer_no_schedule", "no_execute"}).Draw(t, "effect")}}
	}
	return n
}

func drawTemplate(t *rapid.T) *object.PodTemplate {
	var x object.PodTemplate
	one := func(name string) bool { return rapid.IntRange(0, 3).Draw(t, name) == 0 }
	if one("port") {
		x.Containers = []object.Container{{Name: "c", Ports: []object.ContainerPort{{Port: 80, Protocol: "tcp", HostPort: rapid.IntRange(8080, 8081).Draw(t, "host port")}}}}
	}
	if one("avoid") {
		x.Avoid = []object.Avoid{{Labels: map[string]string{"app": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "avoided")},
			Over: rapid.SampledFrom([]string{"node", "zone"}).Draw(t, "over"), Prefer: rapid.SampledFrom([]int{0, 0, 30, 700}).Draw(t, "prefer")}}
	}
	if one("spread") {
		for _, over := range []string{"node", "zone", "rack"} {
			if rapid.Bool().Draw(t, over) {
				x.Spread = append(x.Spread, object.Spread{Over: over, Weight: rapid.SampledFrom([]int{1, 100, 1000}).Draw(t, "weight")})
			}
		}
	}
	if one("constraint") {
		x.Constraints = []object.Constraint{{Attribute: "disk", Operator: rapid.SampledFrom([]string{"=", "!=", "in", "not_in", "<", ">", "exists", "regexp", "version"}).Draw(t, "op"),
			Value: rapid.SampledFrom([]string{"ssd", "9", ">= 1.2"}).Draw(t, "value"), Prefer: rapid.SampledFrom([]int{0, 50}).Draw(t, "prefer")}}
	}
	if one("tolerates") {
		x.Tolerations = []object.Toleration{{Key: "dedicated"}}
	}
	if one("priority") {
		x.Priority = 7
	}
	return &x
}

func drawPolicy(t *rapid.T) Policy {
	if rapid.Bool().Draw(t, "pack") {
		return PackPolicy()
	}
	return SpreadPolicy()
}

// TestKernelEqualsNaive holds trees, log and counts against plain loops, over
// 100 worlds of 700 binds and unbinds.
func TestKernelEqualsNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plain{policy: drawPolicy(t)}
		for i := range rapid.IntRange(1, 14).Draw(t, "nodes") {
			w.nodes = append(w.nodes, drawNode(t, i))
		}
		k := newKernel(&w.policy, w.nodes)
		type kind struct {
			pod  *object.Pod
			tmpl *object.PodTemplate
		}
		var kinds []kind
		var templates []*object.PodTemplate
		for range 4 {
			templates = append(templates, drawTemplate(t))
		}
		for i := range rapid.IntRange(1, 8).Draw(t, "kinds") {
			p := testPod(fmt.Sprintf("set%d", i/2), fmt.Sprintf("p%d", i), map[string]string{"app": rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "app")},
				object.CPU(rapid.SampledFrom([]int{0, 100, 700}).Draw(t, "cpu")), object.Bytes(rapid.SampledFrom([]int{0, 1 << 20, 700 << 20}).Draw(t, "memory")))
			if in := rapid.SampledFrom([][]string{nil, nil, {"a"}, {"a", "b"}}).Draw(t, "within"); in != nil {
				p.Spec.Within = &object.Within{By: "zone", In: in}
			}
			kinds = append(kinds, kind{p, rapid.SampledFrom(templates).Draw(t, "template")})
		}
		seed := rapid.Uint64().Draw(t, "seed")
		random := func(n int) int { // a draw for each step would take most of the time
			seed = seed*6364136223846793005 + 1442695040888963407
			return int(seed >> 33 % uint64(n))
		}
		for step := range 700 {
			if len(w.bound) > 0 && random(100) < 45 {
				i := random(len(w.bound))
				b := w.bound[i]
				if !k.unbind(k.class(b.pod, b.tmpl), int32(b.node)) {
					t.Fatalf("step %d: the pod to unbind is not there", step)
				}
				w.bound[i] = w.bound[len(w.bound)-1]
				w.bound = w.bound[:len(w.bound)-1]
				continue
			}
			x := kinds[random(len(kinds))]
			c := k.class(x.pod, x.tmpl)
			node, score := k.best(c)
			want, high := w.best(x.pod, x.tmpl)
			if node != want || score != high {
				t.Fatalf("step %d: best %d (%d), the plain loop says %d (%d)", step, node, score, want, high)
			}
			for n := range k.nodes {
				score, fits := w.score(x.pod, x.tmpl, n)
				if fits {
					var sum int64
					for _, p := range k.scoreParts(c, int32(n)) {
						sum += int64(p.Points)
					}
					if sum != score {
						t.Fatalf("step %d: node %d scores %d, but its parts make %d: %+v", step, n, score, sum, k.scoreParts(c, int32(n)))
					}
				}
				if why := k.reject(c, int32(n)).String(); (why == "") != fits || (k.total(c, int32(n)) != none) != fits {
					t.Fatalf("step %d: node %d fits: %v, but the reason is %q and the score %d", step, n, fits, why, k.total(c, int32(n)))
				}
			}
			if random(50) == 0 { // what the trees forget they make again
				k.round++
				for _, s := range k.shapes {
					s.trees, s.static = nil, nil
				}
			}
			if node >= 0 {
				k.bind(c, node)
				w.bound = append(w.bound, plainPod{x.pod, x.tmpl, int(node)})
			}
		}
	})
}

// TestRoomIsBounded sees that trees of many shapes do not outgrow maxCells.
func TestRoomIsBounded(t *testing.T) {
	policy := SpreadPolicy()
	var nodes []*object.Node
	for i := range 10_000 {
		nodes = append(nodes, testNode(fmt.Sprintf("n%05d", i), "a", 64_000, 256<<30))
	}
	k := newKernel(&policy, nodes)
	for i := range 500 {
		c := k.class(testPod(fmt.Sprint(i), fmt.Sprint(i), nil, object.CPU(1+i), 1<<20), &object.PodTemplate{})
		n, _ := k.best(c)
		k.bind(c, n)
		cells := 0
		for _, s := range k.shapes {
			cells += len(s.trees)
		}
		for _, d := range k.demands {
			cells += len(d.static)
		}
		if cells > maxCells || cells != k.cells {
			t.Fatalf("%d cells, counted as %d, the limit is %d", cells, k.cells, maxCells)
		}
	}
}
