package policy

import (
	"sync"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl"
)

// Engine judges by policies as the masters hold them. It keeps what it compiled
// by the source, so that a write costs no compiling. Any number of goroutines may
// use it.
type Engine struct {
	mu   sync.Mutex
	kept map[string]entry // by name and source
}

type entry struct {
	policy *Policy
	found  object.Diagnostics
}

// most bounds what is kept; beyond it everything is compiled anew.
const most = 256

// Check tells the mistakes of a policy's source. Places are in NAME.policy.hcl.
func (e *Engine) Check(p *object.Policy) object.Diagnostics { return e.compiled(p).found }

// Foresees reports whether some rule looks at the forecast.
func (e *Engine) Foresees(policies []*object.Policy) bool {
	for _, p := range policies {
		if c := e.compiled(p).policy; c != nil && c.Foresees() {
			return true
		}
	}
	return false
}

// Judge says which rules of the policies a plan breaks. One that an older version
// let in and that does not compile is itself a hard verdict, except on changes of
// policies alone, by which it can be put right.
func (e *Engine) Judge(policies []*object.Policy, plan *object.Plan, author string) []object.PolicyVerdict {
	var out []object.PolicyVerdict
	for _, p := range policies {
		c := e.compiled(p)
		if c.policy != nil {
			out = append(out, c.policy.Judge(plan, author)...)
			continue
		}
		for i := range plan.Changes {
			if plan.Changes[i].Ref.Kind != object.KindPolicy {
				out = append(out, object.PolicyVerdict{Policy: p.Name, Rule: "compiles", Enforcement: object.PolicyHard, Message: "the policy does not compile in this version of Berth: " + c.found[0].Detail, Range: c.found[0].Range})
				break
			}
		}
	}
	return out
}

func (e *Engine) compiled(p *object.Policy) entry {
	key := p.Name + "\x00" + p.Spec.Source
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.kept[key]
	if !ok {
		c.policy, c.found = Compile(p.Name, p.Name+hcl.PolicySuffix, []byte(p.Spec.Source))
		if e.kept == nil || len(e.kept) >= most {
			e.kept = map[string]entry{}
		}
		e.kept[key] = c
	}
	return c
}
