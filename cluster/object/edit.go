package object

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Edit is one field of a declared object that somebody has changed past its stack
// since the stack last wrote it, with who did it and how. Values are JSON.
type Edit struct {
	Path      string    `json:"path"`
	Before    string    `json:"before,omitempty"` // as the stack had it
	After     string    `json:"after,omitempty"`
	Sensitive bool      `json:"sensitive,omitempty"` // then without values
	By        string    `json:"by"`
	Why       string    `json:"why,omitempty"` // the way: scale, rollout restart
	At        time.Time `json:"at"`
	Index     uint64    `json:"index"`
}

// RevisionAuthor is the author of changes that carry out a stack's revision.
const RevisionAuthor = "controller/revision"

// Person reports whether an author is a person or their program, and no part of Berth.
func Person(author string) bool {
	before, _, part := strings.Cut(author, "/")
	return author != "scheduler" && author != "forecast" && !(part && (before == "controller" || before == string(RoleNode) || before == string(RoleMaster)))
}

// Bounds of what one object remembers, for all of it travels with the object.
const (
	maxEdits     = 32
	maxEditValue = 200 // bytes
)

// Edited is what a declared object remembers after somebody has replaced before by
// after: earlier edits, with the later of two of one field, and none of a field
// that is again as the stack had it.
func Edited(before, after Object, by, why string, at time.Time, index uint64) []Edit {
	out := slices.Clone(before.Head().Edits)
	for _, f := range append(Compare(before, after).Fields(), byHand(before, after)...) {
		if slices.Contains(steering, f.Path) {
			continue
		}
		e := Edit{Path: f.Path, Before: editValue(f.Before), After: editValue(f.After), Sensitive: f.Sensitive, By: by, Why: why, At: at, Index: index}
		if i := slices.IndexFunc(out, func(x Edit) bool { return x.Path == f.Path }); i >= 0 {
			e.Before = out[i].Before
			out = slices.Delete(out, i, i+1)
			if !e.Sensitive && e.Before == e.After {
				continue
			}
		}
		out = append(out, e)
	}
	if len(out) > maxEdits {
		out = out[len(out)-maxEdits:]
	}
	return out
}

// steering are the operational fields by which a person leads the rollout of what
// the configuration says: no way past it.
var steering = []string{"promoted", "aborted", "released", "retries"}

// byHand are the operational fields (hcl:"-") of the specification that differ.
func byHand(before, after Object) []FieldDiff {
	var out []FieldDiff
	b, a := reflect.ValueOf(before.SpecPtr()).Elem(), reflect.ValueOf(after.SpecPtr()).Elem()
	for _, f := range Fields(b.Type()) {
		x, y := b.Field(f.Index), a.Field(f.Index)
		if !f.Internal || reflect.DeepEqual(x.Interface(), y.Interface()) {
			continue
		}
		d := FieldDiff{Path: f.JSON, Op: OpUpdate}
		if !x.IsZero() {
			d.Before = x.Interface()
		}
		if !y.IsZero() {
			d.After = y.Interface()
		}
		out = append(out, d)
	}
	return out
}

// ByHand reports whether a path of an Edit is of an operational field, which no
// configuration says.
func ByHand(o Object, path string) bool {
	return slices.ContainsFunc(Fields(reflect.TypeOf(o.SpecPtr()).Elem()), func(f Field) bool { return f.Internal && f.JSON == path })
}

func editValue(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	if len(b) <= maxEditValue {
		return string(b)
	}
	cut := maxEditValue
	for cut > 0 && !utf8.RuneStart(b[cut]) {
		cut--
	}
	return string(b[:cut]) + "…"
}

// Way names what a person does who replaces before by after: the command that does
// the same, else that it was changed through the API.
func Way(before, after Object) string {
	const otherwise = "changed through the API"
	fields := append(Compare(before, after).Fields(), byHand(before, after)...)
	if len(fields) != 1 {
		// Giving a version up also ends the pause.
		if len(fields) == 2 && fields[0].Path == "paused" && fields[1].Path == "aborted" {
			return "rollout abort"
		}
		return otherwise
	}
	f := fields[0]
	switch after.Ref().Kind {
	case KindDeployment, KindReplicaSet:
		switch f.Path {
		case "replicas":
			return OperationScale
		case "restarted":
			return "rollout restart"
		case "promoted":
			return "rollout promote"
		case "aborted":
			return "rollout abort"
		case "released":
			return "rollout resume"
		case "retries":
			return "rollout retry"
		case "paused":
			if f.After == nil {
				return "rollout resume"
			}
			return "rollout pause"
		}
	}
	return otherwise
}

// Remember is the stack that remembers the end of one of its objects, which
// somebody brought about past it.
func (o *Stack) Remember(gone Object, by, why string, at time.Time) *Stack {
	next := o.Clone().(*Stack)
	r := gone.Ref()
	next.Spec.Deleted = append(slices.DeleteFunc(slices.Clone(o.Spec.Deleted), func(d Drift) bool { return d.Ref == r }),
		Drift{Ref: r, Address: r.Address(), Edit: Edit{By: by, Why: why, At: at}})
	if n := len(next.Spec.Deleted); n > maxEdits {
		next.Spec.Deleted = next.Spec.Deleted[n-maxEdits:]
	}
	return next
}

// Drift is an edit that a plan finds, in words that a plan's reader knows. Without a
// path the object was deleted.
type Drift struct {
	Ref     Ref    `json:"ref"`
	Address string `json:"address"`
	Edit
}

// Drifted are the edits of a stack's objects that a plan undoes, and what people did
// by hand since the stack's newest revision. Ways back count as edits, for no
// configuration asked for them: past are those that came after the last apply.
func (p *Plan) Drifted(objects []Object, deleted []Drift, newest time.Time, past []*Revision) []Drift {
	undoes := map[Ref]*PlannedChange{}
	for i := range p.Changes {
		undoes[p.Changes[i].Ref] = &p.Changes[i]
	}
	touches := func(r Ref, path string) bool {
		c := undoes[r]
		return c != nil && (c.After.IsZero() || slices.ContainsFunc(c.Fields, func(f FieldDiff) bool {
			return f.Path == path || strings.HasPrefix(path, f.Path+".") || strings.HasPrefix(f.Path, path+".")
		}))
	}
	var out []Drift
	add := func(r Ref, e Edit) {
		d := Drift{Ref: r, Address: r.Address(), Edit: e}
		if c := undoes[r]; c != nil {
			d.Address = c.Address
		}
		out = append(out, d)
	}
	for _, d := range deleted {
		if c := undoes[d.Ref]; c != nil && c.Before.IsZero() {
			add(d.Ref, d.Edit)
		}
	}
	for _, o := range objects {
		for _, e := range o.Head().Edits {
			if ByHand(o, e.Path) && e.At.After(newest) || touches(o.Ref(), e.Path) {
				add(o.Ref(), e)
			}
		}
	}
	for _, rev := range past {
		why := rev.Spec.Cause
		if why == "undo" {
			why = "rollout undo"
		}
		for i := range rev.Spec.Changes {
			c := &rev.Spec.Changes[i]
			if c.Before.IsZero() || c.After.IsZero() {
				continue
			}
			for _, f := range Compare(c.Before.Object, c.After.Object).Fields() {
				seen := slices.ContainsFunc(out, func(d Drift) bool { return d.Ref == c.Ref && d.Path == f.Path })
				if !seen && touches(c.Ref, f.Path) {
					add(c.Ref, Edit{Path: f.Path, Before: editValue(f.Before), After: editValue(f.After), Sensitive: f.Sensitive, By: rev.Spec.Author, Why: why, At: rev.Spec.Time, Index: rev.Created})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Drift) int {
		if c := a.Ref.Compare(b.Ref); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	return out
}
