package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/berthdev/berth/cluster/object"
)

// Policies put network policies in force for the pods of this node. Which pods
// there are it hears from the agent, before their first process starts, and not
// from the masters: so a pod is never open because a view is behind. The kernel's
// rules are its memory. A machine where nothing is isolated gets no rules at all.
type Policies struct {
	Logger *slog.Logger // default: discard

	mu       sync.Mutex
	k        *kernel
	builder  policyBuilder
	pods     map[string]guarded
	policies []*object.PolicyRules
	told     bool    // whether there was a view
	have     ruleSet // what our chains hold as far as we know; nil: they must be read
	want     map[string][]string
	led      bool // whether the jumps are there as far as we know
	printed  prints
	verified uint32 // the kernel's generation at which all was right
	known    bool   // whether verified says anything
	bridged  bool   // whether bridged packets were made to pass the rules once
	sound    bool   // whether all that was told last is in force
}

var policyJumps = []rule{
	{tablePolicies, "FORWARD", []string{"-m", "comment", "--comment", "berth: policies", "-j", chainPolicy}},
	{tablePolicies, "INPUT", []string{"-m", "comment", "--comment", "berth: policies", "-j", chainPolicyNode}},
}

func isPolicyChain(name string) bool {
	return name == chainPolicy || strings.HasPrefix(name, prefixPolicy)
}

// Guard puts in force for a pod whatever is known to hold for it; it returns when
// nothing else passes. Before the first view a pod is closed, unless it has been
// running: then the rules of an earlier process are still there. It may be repeated.
func (p *Policies) Guard(id string, pod *object.Pod, address netip.Addr, running bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := guarded{id: id, pod: pod.Ref(), labels: pod.Labels, ports: pod.Spec.Pod.PortsOf(), address: address, closed: !p.told && !running}
	if p.pods == nil {
		p.pods = map[string]guarded{}
	}
	old, repeated := p.pods[id]
	if repeated && p.sound && old.address == g.address && old.closed == g.closed && maps.Equal(old.labels, g.labels) && slices.Equal(old.ports, g.ports) {
		return nil
	}
	p.pods[id] = g
	if !p.told && running {
		return nil
	}
	if err := p.apply(context.Background()); err != nil {
		return fmt.Errorf("network policies: %w", err)
	}
	return nil
}

// Release forgets a pod; its address may be another's afterwards.
func (p *Policies) Release(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.pods[id]; !ok {
		return nil
	}
	delete(p.pods, id)
	return p.applyTold()
}

// Retain forgets all pods but these.
func (p *Policies) Retain(ids []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.pods)
	maps.DeleteFunc(p.pods, func(id string, _ guarded) bool { return !slices.Contains(ids, id) })
	if len(p.pods) == before {
		return nil
	}
	return p.applyTold()
}

// applyTold leaves the rules of an earlier process alone until there is a view to
// replace them by.
func (p *Policies) applyTold() error {
	if !p.told {
		return nil
	}
	return p.apply(context.Background())
}

// Apply puts the policies of a view in force.
func (p *Policies) Apply(ctx context.Context, v *object.NetworkView) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.Network == nil {
		return nil // the masters have not told
	}
	if p.told && p.sound && slices.Equal(p.policies, v.Policies) {
		return nil
	}
	first := !p.told
	p.told, p.policies = true, v.Policies
	if first {
		for id, g := range p.pods {
			g.closed = false
			p.pods[id] = g
		}
	}
	return p.apply(ctx)
}

// apply writes what is not as it should be.
func (p *Policies) apply(ctx context.Context) (err error) {
	defer func() { p.sound = err == nil }()
	want := p.builder.build(slices.Collect(maps.Values(p.pods)), p.policies)
	if want == nil && p.have == nil && !p.told {
		return nil
	}
	if err := p.open(ctx); err != nil {
		return err
	}
	if want == nil && len(p.have[tablePolicies]) > 0 {
		want = map[string][]string{} // the way in stays, for the next policy
		baseChains(want)
	}
	p.want = want
	if err := p.put(ctx); err != nil {
		return err
	}
	if len(want) == 0 {
		return nil
	}
	if !p.led {
		if err := ensureJumps(p.k.t, policyJumps); err != nil {
			return err
		}
		p.led = true
	}
	_, err = p.bridge()
	return err
}

// open finds the iptables programs and, unless that is known, what our chains hold.
func (p *Policies) open(ctx context.Context) error {
	if p.k == nil {
		k, err := openKernel()
		if err != nil {
			return err
		}
		if err := k.diagnose(ctx); err != nil {
			return err
		}
		p.k = k
	}
	if p.have != nil {
		return nil
	}
	have, _, err := p.k.readChains(ctx, isPolicyChain, tablePolicies)
	if err != nil {
		return err
	}
	p.have, p.led, p.known = have, false, false
	return nil
}

// put writes the chains that differ, in one transaction.
func (p *Policies) put(ctx context.Context) error {
	script, written := p.have.script(ruleSet{tablePolicies: p.want})
	if len(script) > 0 {
		p.known = false
		if err := p.k.write(ctx, script); err != nil {
			p.have = nil
			return fmt.Errorf("rules of network policies: %w", err)
		}
		p.log().Debug("rules of network policies", "chains", len(written))
	}
	p.have = ruleSet{tablePolicies: p.want}
	return nil
}

// bridge makes packets between pods of this node, which never leave the bridge,
// pass the rules.
func (p *Policies) bridge() (mended bool, err error) {
	changed, err := sysctl{path: sysctlBridge, value: "1"}.set()
	if err != nil {
		return false, fmt.Errorf("%s cannot be switched on, so network policies do not hold between pods of the same node: %w", sysctlBridge, err)
	}
	mended = changed && p.bridged
	p.bridged = true
	return mended, nil
}

// Ensure repairs rules that somebody else has changed. While nobody changes a rule
// it costs one question to the kernel.
func (p *Policies) Ensure(ctx context.Context) (mended []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.want) == 0 || p.k == nil {
		return nil, nil
	}
	if changed, err := p.bridge(); err != nil {
		return nil, err
	} else if changed {
		mended = append(mended, sysctlBridge+" had been switched off, so that network policies did not hold between pods of this node")
	}
	at, counted := p.k.generation()
	if counted && p.known && at == p.verified {
		return mended, nil
	}
	have, jumps, err := p.k.readChains(ctx, isPolicyChain, tablePolicies)
	if err != nil {
		return mended, err
	}
	want := ruleSet{tablePolicies: p.want}
	p.printed.undo(have, want)
	p.have = have
	_, wrong := have.script(want)
	if len(wrong) > 0 {
		if err := p.put(ctx); err != nil {
			return mended, err
		}
		again, _, err := p.k.readChains(ctx, isPolicyChain, tablePolicies)
		if err != nil {
			return mended, err
		}
		p.printed = notPrints(again, want)
		wrong = slices.DeleteFunc(wrong, func(chain string) bool {
			rules, ok := again[tablePolicies][chain]
			return ok && sameRules(rules, have[tablePolicies][chain])
		})
		if len(wrong) > 0 {
			mended = append(mended, p.describe(wrong))
		}
	}
	for _, j := range policyJumps {
		line := "-A " + j.chain + " " + strings.Join(j.spec, " ")
		if !slices.Contains(jumps[j.table], line) {
			p.led = false
			mended = append(mended, fmt.Sprintf("the rule of %s %s that leads to the network policies was gone", j.table, j.chain))
		}
	}
	if !p.led {
		if err := ensureJumps(p.k.t, policyJumps); err != nil {
			return mended, err
		}
		p.led = true
	}
	// Looked at once more if anything was wrong: somebody is at work.
	p.known, p.verified = counted && len(mended) == 0 && len(wrong) == 0, at
	return mended, nil
}

// describe tells whose chains had to be written anew; those of no policy only if
// there is nothing else to tell.
func (p *Policies) describe(chains []string) string {
	policies, others := map[string]bool{}, map[string]bool{}
	for _, c := range chains {
		others["chain "+c] = true
		for _, x := range p.builder.profiles {
			if _, ok := x.chains[c]; ok {
				policies["policy "+x.policies[0].Namespace+"/"+x.policies[0].Name] = true
			}
		}
	}
	names := sortedNames(policies)
	if len(names) == 0 {
		names = sortedNames(others)
	}
	more := ""
	if n := len(names) - 3; n > 0 {
		names, more = names[:3], fmt.Sprintf(" and %d more", n)
	}
	return "somebody else had changed the iptables rules of " + strings.Join(names, ", ") + more
}

// Purge removes our chains and the jumps into them, and nothing else.
func (p *Policies) Purge() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, err := openKernel()
	if err != nil {
		return err
	}
	ctx := context.Background()
	have, _, err := k.readChains(ctx, isPolicyChain, tablePolicies)
	if err != nil {
		return err
	}
	if len(have[tablePolicies]) > 0 {
		for _, j := range policyJumps {
			for {
				if ok, err := k.t.Exists(j.table, j.chain, j.spec...); err != nil || !ok {
					break // no such rule, or no chain to jump to: both are what we want
				}
				if err := k.t.Delete(j.table, j.chain, j.spec...); err != nil {
					return fmt.Errorf("iptables: %s %s: %w", j.table, j.chain, err)
				}
			}
		}
		if script, _ := have.script(ruleSet{}); len(script) > 0 {
			if err := k.write(ctx, script); err != nil {
				return fmt.Errorf("removing the rules of network policies: %w", err)
			}
		}
	}
	p.k, p.have, p.want, p.printed, p.pods, p.policies, p.builder = nil, nil, nil, nil, nil, nil, policyBuilder{}
	p.told, p.led, p.known, p.bridged, p.sound = false, false, false, false, false
	return nil
}

func (p *Policies) log() *slog.Logger {
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	return p.Logger
}
