package master

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/analysis"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

const (
	dutyCheck = "analysis"
	// maxAsked is how many questions to sources are under way at once.
	maxAsked = 64
)

// checks takes the measurements that need the network, for as long as this master
// leads. The loop owns it; only the questions themselves are asked beside it.
type checks struct {
	sources *analysis.Sources
	traffic *analysis.Traffic
	open    map[object.Ref]bool // deployments with such checks
	asked   map[asking]bool
	begun   map[asking]counted // when the measurement began
	next    time.Time          // when one is due
	pending sync.WaitGroup

	mu   sync.Mutex
	told map[asking]object.Measurement // to be written
}

// counted is the traffic of a set at a moment.
type counted struct {
	object.SetTraffic
	at time.Time
}

// asking names one measurement: the check, its run, and how many came before. With
// the same name nothing is counted twice, whoever leads.
type asking struct {
	deployment object.Ref
	set        string
	step, name string
	since      int64
	runs       int
}

func newChecks(t *analysis.Traffic) *checks {
	t.Reset()
	return &checks{sources: analysis.NewSources(), traffic: t, open: map[object.Ref]bool{}, asked: map[asking]bool{}, begun: map[asking]counted{}, told: map[asking]object.Measurement{}}
}

// close waits for the questions that are under way; their context has ended.
func (c *checks) close() {
	c.pending.Wait()
	c.sources.Close()
}

// follow notes which deployments have checks that are to be measured here.
func (c *checks) follow(o object.Object, ref object.Ref) {
	if ref.Kind != object.KindDeployment {
		return
	}
	delete(c.open, ref)
	if d, ok := o.(*object.Deployment); ok {
		for _, p := range d.Pending() {
			if p.Check.Networked() {
				c.open[ref] = true
			}
		}
	}
}

func (l *leader) followChecks(events []state.Event) {
	for i := range events {
		l.checks.follow(events[i].After, events[i].Ref)
	}
}

// analyse asks the sources of the checks that are due, and writes what they told. A
// measurement is written onto the status that it was taken for and no other: a change
// in between refuses it, and it is written again if it is still the next one.
func (l *leader) analyse(ctx context.Context, v *state.Snapshot, now time.Time) {
	c := l.checks
	c.next = time.Time{}
	wanted := map[asking]bool{}
	for ref := range c.open {
		d, ok := state.Find[*object.Deployment](v, ref)
		if !ok {
			delete(c.open, ref)
			continue
		}
		_, under := l.underWay[task{dutyCheck, ref}]
		status, some := d.Status, false
		for _, p := range d.Pending() {
			if !p.Check.Networked() {
				continue
			}
			a := asking{ref, d.Status.Set, p.Step, p.Name, p.Since.UnixNano(), p.Runs}
			wanted[a] = true
			due := p.Due(p.Check)
			if p.Check.Traffic() {
				if from := c.begin(a, d, &p, now).Add(p.Check.Interval.D()); from.After(due) {
					due = from // this master has listened for less than that
				}
			}
			m, told := c.take(a)
			switch {
			case told && under:
			case told:
				next := d.Clone().(*object.Deployment)
				next.Status = status
				status, some = *next.Measured(p, m), true
			case c.asked[a]:
			case now.Before(due):
				c.wake(due)
			case p.Check.Traffic():
				c.tell(a, c.signal(a, d, &p, now))
				c.wake(now)
			case len(c.asked) < maxAsked:
				l.ask(ctx, a, p.Check, d.Subject(), l.opener(v, d.Namespace))
			default:
				c.wake(now.Add(lookAgain))
			}
		}
		if some && !under {
			cs := object.Changeset{Author: "master", Reason: d.Name + " is checked", Time: now}
			cs.SetStatus(d, &status)
			l.propose(task{dutyCheck, ref}, cs, "master", now)
		}
	}
	c.forget(wanted)
}

// ask puts a question beside the loop.
func (l *leader) ask(ctx context.Context, a asking, check *object.Check, about object.Subject, open analysis.Open) {
	c := l.checks
	c.asked[a] = true
	c.pending.Go(func() {
		var m object.Measurement
		if defect := safely(func() { m = c.sources.Measure(ctx, check, about, open) }); defect != nil {
			l.m.log.Error("a measurement failed by a defect of Berth", "deployment", a.deployment.String(), "check", a.name, "error", defect)
			m = object.Inconclusive("the master failed on this measurement; its log has the details")
		}
		if ctx.Err() != nil {
			return // the next leader asks again
		}
		m.At = l.m.config.Now()
		c.tell(a, m)
		l.results.nudge()
	})
}

// opener opens the secrets of a namespace as they are in v: the value in force when the
// question is asked, whichever the pods run with.
func (l *leader) opener(v *state.Snapshot, namespace string) analysis.Open {
	return func(k object.SecretKey) (string, error) {
		r := object.Ref{Kind: object.KindSecret, Namespace: namespace, Name: k.Name}
		secret, ok := state.Find[*object.Secret](v, r)
		if !ok {
			return "", fmt.Errorf("secret/%s does not exist in namespace %s", k.Name, namespace)
		}
		sealed, ok := secret.Spec.Data[k.Key]
		if !ok {
			return "", fmt.Errorf("secret/%s has no key %q", k.Name, k.Key)
		}
		if l.m.config.Keys == nil {
			return "", fmt.Errorf("secret/%s cannot be opened: this master has no keys", k.Name)
		}
		plain, err := l.m.config.Keys.Reveal(r, k.Key, sealed)
		if err != nil {
			l.m.log.Error("a secret cannot be opened", "for", "a check", "secret", r.String(), "key", k.Key, "error", err)
			return "", fmt.Errorf("secret/%s cannot be opened by this master; its log says more", k.Name)
		}
		return plain, nil
	}
}

// begin notes how much traffic there was when a measurement began. One that told
// nothing is gone on with, so that few requests add up; so is that of another leader,
// from when this one leads.
func (c *checks) begin(a asking, d *object.Deployment, p *object.Pending, now time.Time) time.Time {
	b, ok := c.begun[a]
	if !ok {
		before := a
		before.runs--
		if b, ok = c.begun[before]; !ok || p.Inconclusive == 0 {
			b = counted{c.traffic.Of(d.Namespace, d.Status.Set), now}
		}
		c.begun[a] = b
	}
	return b.at
}

// signal measures what the ingresses have counted.
func (c *checks) signal(a asking, d *object.Deployment, p *object.Pending, now time.Time) object.Measurement {
	r, err := c.traffic.Of(d.Namespace, d.Status.Set).Since(c.begun[a].SetTraffic).Signal(p.Check.Signal)
	m := object.Inconclusive("%v", err)
	if err == nil {
		m = p.Check.Judge(r)
	}
	m.At = now
	return m
}

func (c *checks) tell(a asking, m object.Measurement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told[a] = m
}

func (c *checks) take(a asking) (object.Measurement, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.told[a]
	return m, ok
}

// forget drops what belongs to no measurement that is still the next one. What had
// been counted before the last is kept, for begin.
func (c *checks) forget(wanted map[asking]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.told {
		if !wanted[a] {
			delete(c.told, a)
		}
	}
	for a := range c.asked {
		if _, told := c.told[a]; told || !wanted[a] {
			delete(c.asked, a)
		}
	}
	for a := range c.begun {
		after := a
		after.runs++
		if !wanted[a] && !wanted[after] {
			delete(c.begun, a)
		}
	}
}

func (c *checks) wake(at time.Time) {
	if c.next.IsZero() || at.Before(c.next) {
		c.next = at
	}
}
