package object

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the same time zones on every master, whatever its machine has
)

// FreezeSpec is a window in time in which people change nothing. Masters hold every
// plan and every other write against it by their own clock.
type FreezeSpec struct {
	Namespaces []string `json:"namespaces,omitempty" hcl:"namespaces" effect:"in_place" doc:"Namespaces that it holds for; absent: the whole cluster, with what belongs to no namespace."`
	From       string   `json:"from" hcl:"from,required" effect:"in_place" doc:"When it begins: \"fri 17:00\" every week, \"22:00\" every day, or \"2026-12-23 18:00\" once."`
	To         string   `json:"to" hcl:"to,required" effect:"in_place" doc:"When it ends, in the same form as from."`
	TimeZone   string   `json:"time_zone" hcl:"time_zone" default:"UTC" effect:"in_place" doc:"Whose clock from and to are read on, such as \"Europe/Berlin\"; it follows summer time."`
	Reason     string   `json:"reason,omitempty" hcl:"reason" effect:"in_place" doc:"Why, for whoever is refused."`
}

// Freeze is a window in time in which people change nothing.
type Freeze struct {
	Meta `json:"meta"`
	Spec FreezeSpec `json:"spec"`
}

func (o *Freeze) SpecPtr() any   { return &o.Spec }
func (o *Freeze) StatusPtr() any { return nil }
func (o *Freeze) Clone() Object  { c := *o; return &c }

// moment is an end of a window: on a date, or whenever the clock shows it.
type moment struct {
	every        int          // days after which it comes again: 0 never, 1, 7
	on           time.Time    // every == 0
	day          time.Weekday // every == 7
	hour, minute int
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func parseMoment(s string, zone *time.Location) (moment, bool) {
	if t, err := time.ParseInLocation("2006-01-02 15:04", s, zone); err == nil {
		return moment{on: t}, true
	}
	m, clock := moment{every: 1}, s
	if name, rest, ok := strings.Cut(s, " "); ok {
		day := slices.Index(weekdays, strings.ToLower(name))
		if day < 0 {
			return moment{}, false
		}
		m.every, m.day, clock = 7, time.Weekday(day), rest
	}
	t, err := time.Parse("15:04", clock)
	if err != nil || len(clock) != len("15:04") {
		return moment{}, false
	}
	m.hour, m.minute = t.Hour(), t.Minute()
	return m, true
}

// at is the moment on the day that is so many after t's; false on other weekdays.
func (m moment) at(t time.Time, days int) (time.Time, bool) {
	year, month, day := t.Date()
	// At noon no time zone changes its clock, so that the weekday is the day's.
	if m.every == 7 && time.Date(year, month, day+days, 12, 0, 0, 0, t.Location()).Weekday() != m.day {
		return time.Time{}, false
	}
	return time.Date(year, month, day+days, m.hour, m.minute, 0, 0, t.Location()), true
}

// timeZone loads a time zone; "Local" would be another on every master.
func timeZone(name string) (*time.Location, error) {
	if name == "Local" || name == "" {
		return nil, fmt.Errorf("%q is not the name of a time zone", name)
	}
	return time.LoadLocation(name)
}

// Until is when the window ends, on its own clock, that now falls into; false
// outside of it. The first moment is in the window, the last is not.
func (s *FreezeSpec) Until(now time.Time) (time.Time, bool) {
	zone, err := timeZone(s.TimeZone)
	if err != nil {
		return time.Time{}, false // refused when it was written
	}
	from, known := parseMoment(s.From, zone)
	to, alsoKnown := parseMoment(s.To, zone)
	if !known || !alsoKnown || from.every != to.every {
		return time.Time{}, false
	}
	if from.every == 0 {
		return to.on, !now.Before(from.on) && now.Before(to.on)
	}
	local := now.In(zone)
	for back := range from.every + 1 {
		begin, ok := from.at(local, -back)
		if !ok || begin.After(now) {
			continue
		}
		// A window is shorter than its period: only the one that began last can
		// hold, and it ends at the first end after that.
		for days := range to.every + 1 {
			if end, ok := to.at(local, days-back); ok && end.After(begin) {
				return end, now.Before(end)
			}
		}
	}
	return time.Time{}, false
}

func (s *FreezeSpec) check(c *checker, at *step) {
	for _, ns := range s.Namespaces {
		if ns == "" {
			c.fail(at.to("namespaces"), "Empty name", "A namespace has a name. To freeze the whole cluster, leave namespaces out.")
		}
	}
	if s.Namespaces != nil && len(s.Namespaces) == 0 {
		c.fail(at.to("namespaces"), "Empty list", "It would hold for nothing. To freeze the whole cluster, leave namespaces out.")
	}
	zone, err := timeZone(s.TimeZone)
	if err != nil {
		c.fail(at.to("time_zone"), "Unknown time zone", "There is no time zone %q. Take a name such as Europe/Berlin, America/New_York or UTC.", s.TimeZone)
		return
	}
	var ends [2]moment
	for i, x := range []struct{ name, text string }{{"from", s.From}, {"to", s.To}} {
		if x.text == "" {
			return // told already: it is required
		}
		m, ok := parseMoment(x.text, zone)
		if !ok {
			c.fail(at.to(x.name), "Wrong time", "%q is no time of a window. Write \"fri 17:00\" for every week, \"22:00\" for every day, or \"2026-12-23 18:00\" for once.", x.text)
			return
		}
		ends[i] = m
	}
	from, to := ends[0], ends[1]
	switch {
	case from.every != to.every:
		c.fail(at.to("to"), "Two forms of time", "A window that begins at %q cannot end at %q: both are a date, both a day of the week, or both a time of day.", s.From, s.To)
	case from.every == 0 && !from.on.Before(to.on):
		c.fail(at.to("to"), "Empty window", "It ends at %s, which is not after its begin at %s.", s.To, s.From)
	case from.every > 0 && from == to:
		c.fail(at.to("to"), "Endless window", "It would begin again the moment it ends. Write dates for a freeze without a gap.")
	}
}

// Holds reports whether the freeze is about an object. It is about itself, too:
// who is refused by it must not remove it instead.
func (o *Freeze) Holds(r Ref) bool {
	switch {
	case len(o.Spec.Namespaces) == 0, r == o.Ref():
		return true
	case r.Kind == KindNamespace:
		return slices.Contains(o.Spec.Namespaces, r.Name)
	}
	return slices.Contains(o.Spec.Namespaces, r.Namespace)
}

// Frozen is a freeze whose window a plan or another write falls into.
type Frozen struct {
	Freeze  string    `json:"freeze"`
	Until   time.Time `json:"until"`
	Address string    `json:"address"` // of the first change that it holds for
	Message string    `json:"message"`
}

// Freezing finds the freezes that hold for one of the objects now, in their order.
func Freezing(freezes []*Freeze, touched []Ref, now time.Time) []Frozen {
	var out []Frozen
	for _, f := range freezes {
		until, ok := f.Spec.Until(now)
		if !ok {
			continue
		}
		i := slices.IndexFunc(touched, f.Holds)
		if i < 0 {
			continue
		}
		message := fmt.Sprintf("The freeze %q holds until %s", f.Name, until.Format("Mon 2006-01-02 15:04 MST"))
		if f.Spec.Reason != "" {
			message += " (" + strings.TrimSuffix(f.Spec.Reason, ".") + ")"
		}
		out = append(out, Frozen{Freeze: f.Name, Until: until, Address: touched[i].Address(), Message: message + "."})
	}
	return out
}

// Warnings are freezes as findings about a plan, which can be applied later.
func Warnings(found []Frozen) Diagnostics {
	var out Diagnostics
	for _, f := range found {
		out = append(out, Diagnostic{Severity: SeverityWarning, Address: f.Address, Summary: "Frozen by " + f.Freeze,
			Detail: f.Message + " Until then the masters refuse to apply this, unless with --override-freeze \"REASON\", which is recorded."})
	}
	return out
}

// Refuses is the error that freezes make of a write; nil if there are none, or a
// reason to override them.
func Refuses(found []Frozen, override string) error {
	if len(found) == 0 || override != "" {
		return nil
	}
	last := slices.MaxFunc(found, func(a, b Frozen) int { return a.Until.Compare(b.Until) })
	e := &Error{Code: CodeFrozen, Message: strings.TrimSuffix(last.Message, "."),
		Hint: "Nothing was written. Wait until then, or go on with --override-freeze \"REASON\", which is recorded."}
	for _, f := range found {
		e.Diagnostics = append(e.Diagnostics, Diagnostic{Severity: SeverityError, Address: f.Address, Summary: "Frozen by " + f.Freeze,
			Detail: f.Message + " Nothing was written. To go on all the same: --override-freeze \"REASON\", which is recorded."})
	}
	return e
}

// Steers reports whether a write past a plan only leads or ends a rollout that is
// under way: paused, resumed, promoted, tried again, given up. A freeze lets it pass:
// a rollout that nobody can stop would be worse than none.
func Steers(before, after Object) bool {
	was, ok := before.(*Deployment)
	is, alsoOK := after.(*Deployment)
	if !ok || !alsoOK {
		return false
	}
	same := *is
	same.Spec.Paused, same.Spec.Promoted, same.Spec.Aborted = was.Spec.Paused, was.Spec.Promoted, was.Spec.Aborted
	same.Spec.Released, same.Spec.Retries = was.Spec.Released, was.Spec.Retries
	return Equal(was, &same) && was.Spec.Restarted.Equal(is.Spec.Restarted) && SamePins(was, is) // Equal does not look at what is no configuration
}

// FreezeHeader carries, in the form of a part of an URL, the reason for which the
// sender of a write sets freezes aside.
const FreezeHeader = "Berth-Override-Freeze"
