package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

type planInput struct {
	Brief       bool   `query:"brief" doc:"Answer without what was sent: resource_changes, expect and outputs are left out."`
	ContentType string `header:"Content-Type" hidden:"true"`
	RawBody     []byte
}

// postPlan rehearses a plan on what is so now and seals it. The seal is over the
// whole plan; who asks for a brief answer puts the rest in again.
func (s *Server) postPlan(ctx context.Context, in *planInput) (*answer[object.Plan], error) {
	p, err := readPlan(in.ContentType, in.RawBody, s.Each, object.DecodePlan)
	if err != nil {
		return nil, err
	}
	in.RawBody = nil // a rehearsal takes its time
	if p.Format == "" {
		p.Format = object.PlanFormat
	}
	if err := s.checkPlan(p); err != nil {
		return nil, err
	}
	if err := s.Cluster.Barrier(ctx); err != nil {
		return nil, err
	}
	v, now := s.Cluster.Snapshot(), s.Now().UTC()
	for _, x := range p.Expect {
		if err := stale(v, p, x, "the configuration was compared"); err != nil {
			return nil, err
		}
	}
	p.Cluster, p.Version, p.Index, p.Time, p.Seal = s.Keys.Cluster(), s.Version, v.Index(), now, ""
	if err := limit(p, now); err != nil {
		return nil, err
	}
	if p.Operation != nil {
		if err = s.choose(v, p); err != nil {
			return nil, err
		}
		if p.Expect, err = expected(v, p); err != nil {
			return nil, err
		}
	} else if err := s.judge(v, p); err != nil {
		return nil, err
	} else {
		p.Drift = drift(v, p)
		p.Warnings = append(p.Warnings, pinned(v, p)...)
	}
	if p.Forecast, err = s.Plan(ctx, v, p, now); err != nil {
		return nil, err
	}
	if err := explain(v, p); err != nil {
		return nil, err
	}
	p.Broken = nil
	if !p.Guards.IsZero() {
		p.Broken = p.Guards.Check(p, &p.Forecast, declared(v, p))
	}
	if p.Verdicts, err = s.verdicts(v, p, identityOf(ctx).author()); err != nil {
		return nil, err
	}
	if p.Freezes, err = s.frozen(v, p, now); err != nil {
		return nil, err
	}
	p.Warnings = append(p.Warnings, object.Warnings(p.Freezes)...)
	if p.Seal, err = s.Keys.Sign(s.sealed(p)); err != nil {
		return nil, err
	}
	if in.Brief {
		p.Changes, p.Outputs, p.OutputChanges = nil, nil, nil
		if p.Operation == nil {
			p.Expect = nil // of an operation the masters have made it
		}
	}
	return &answer[object.Plan]{Body: *p}, nil
}

// readPlan reads a plan, or a request to apply one, in either of its forms.
func readPlan[T any](contentType string, raw []byte, each object.Each, binary func([]byte, object.Each) (*T, error)) (*T, error) {
	read := func() (*T, error) { return binary(raw, each) }
	if media, _, _ := mime.ParseMediaType(contentType); media != object.PlanMediaType {
		read = func() (*T, error) {
			v := new(T)
			d := json.NewDecoder(bytes.NewReader(raw))
			d.DisallowUnknownFields()
			return v, d.Decode(v)
		}
	}
	v, err := read()
	if err == nil {
		return v, nil
	}
	var own *object.Error
	if errors.As(err, &own) {
		return nil, own
	}
	e := object.Errorf(object.CodeInvalid, object.Ref{}, "not a plan of this version of Berth: %w", err)
	e.Hint = "Plan again with the same version of berth as the masters."
	return nil, e
}

// takesPlan describes a body that readPlan reads.
func takesPlan[T any](s *Server, o huma.Operation) huma.Operation {
	schema := schemaBuilder{s.doc.OpenAPI().Components.Schemas}.of(reflect.TypeFor[T]())
	o.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json":   {Schema: schema},
		object.PlanMediaType: {Schema: &huma.Schema{Type: "string", Format: "binary", Description: "The same as Berth's own clients send it."}},
	}}
	return o
}

// judge completes the plan with what the masters choose and warn of, or refuses it.
func (s *Server) judge(v *state.Snapshot, p *object.Plan) error {
	if s.Check == nil {
		return nil
	}
	assigned, found := s.Check(v, p)
	if found.HasErrors() {
		return &object.Error{Code: object.CodeInvalid, Message: "the plan does not go together with what the cluster has", Diagnostics: found}
	}
	p.Assign(assigned)
	p.Warnings = append(p.Warnings, found...)
	return nil
}

// checkPlan refuses what no plan of Berth's own would say.
func (s *Server) checkPlan(p *object.Plan) error {
	if p.Format != object.PlanFormat {
		e := object.Errorf(object.CodeInvalid, object.Ref{}, "the plan has format %q, but these masters know %q", p.Format, object.PlanFormat)
		e.Hint = "Plan again with a berth of the masters' version."
		return e
	}
	if err := p.CheckPins(); err != nil {
		return err
	}
	if p.Restore != nil {
		if err := s.checkRestore(p); err != nil {
			return err
		}
	}
	if p.Operation != nil {
		if p.Stack != "" || p.Restore != nil || len(p.Changes) > 0 || len(p.Outputs) > 0 || len(p.OutputChanges) > 0 {
			return &object.Error{Code: object.CodeInvalid, Message: "a plan of an operation has no stack, changes or outputs", Hint: "Plan the two apart."}
		}
		return nil
	}
	if p.Cause == object.CauseWrite {
		return &object.Error{Code: object.CodeInvalid, Message: "the cause of a plan cannot be " + p.Cause}
	}
	if p.Stack == "" && p.Restore == nil {
		return &object.Error{Code: object.CodeInvalid, Message: "the plan names no stack"}
	}
	if p.Stack != "" && !object.IsName(p.Stack) {
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("stack: %q is not a name", p.Stack), Hint: "Use lower-case letters, digits and hyphens, a letter or digit first and last, 63 at most."}
	}
	seen := make(map[object.Ref]bool, len(p.Changes))
	for i := range p.Changes {
		c := &p.Changes[i]
		if seen[c.Ref] {
			return object.Errorf(object.CodeInvalid, c.Ref, "the plan changes it twice")
		}
		seen[c.Ref] = true
		if c.Moved() {
			if c.From.Kind != c.Ref.Kind || c.From.Namespace != c.Ref.Namespace || seen[c.From] || c.Before.IsZero() || c.After.IsZero() {
				return object.Errorf(object.CodeInvalid, c.Ref, "cannot have been %s before", c.From)
			}
			seen[c.From] = true
		}
		for _, side := range []object.Any{c.Before, c.After} {
			if !side.IsZero() && side.Ref() != c.Ref {
				return object.Errorf(object.CodeInvalid, c.Ref, "the plan has another object for it: %s", side.Ref())
			}
		}
		if c.After.IsZero() {
			continue
		}
		if info, ok := object.Info(c.Ref.Kind); !ok || !info.Declared {
			return object.Errorf(object.CodeInvalid, c.Ref, "a %s cannot be declared", c.Ref.Kind)
		}
	}
	return s.Each(len(p.Changes), func(i int) error {
		if after := p.Changes[i].After; !after.IsZero() {
			return check(after.Object)
		}
		return nil
	})
}

// stale is the error when an object is not as a plan saw it.
func stale(v *state.Snapshot, p *object.Plan, x object.Expectation, since string) error {
	o, ok := v.Get(x.Ref)
	e := object.Errorf(object.CodeStale, x.Ref, "")
	e.Hint = "Plan again."
	switch {
	case !ok && x.Version == 0, ok && o.Head().Version == x.Version:
		return nil
	case !ok:
		e.Message = "was deleted since " + since
		if d := ended(v, p, x.Ref); d != nil {
			e.By, e.At = d.By, d.At
			e.Message = fmt.Sprintf("was deleted by %s at %s, since %s", d.By, d.At.UTC().Format(time.RFC3339), since)
		}
	default:
		m := o.Head()
		e.By, e.At = changedBy(v, o), m.ChangedAt
		what := "was changed"
		if x.Version == 0 {
			what = "was created"
		}
		e.Message = fmt.Sprintf("%s by %s at %s, since %s", what, e.By, m.ChangedAt.UTC().Format(time.RFC3339), since)
		if m.ChangedWhy != "" {
			e.Message += " (" + m.ChangedWhy + ")"
		}
		if x.Version != 0 {
			e.Fields = changedFields(v, p, x, o)
			e.Message += said(e.Fields)
		}
	}
	return e
}

// changedBy is who changed an object last: of what a revision wrote, its author.
func changedBy(v *state.Snapshot, o object.Object) string {
	if rev := writer(v, o); rev != nil && rev.Spec.Author != "" {
		return rev.Spec.Author
	}
	return o.Head().ChangedBy
}

type applyInput struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	RawBody     []byte
}

// postApply commits a sealed plan: one changeset, the stack's next revision.
func (s *Server) postApply(ctx context.Context, in *applyInput) (*answer[object.Applied], error) {
	req, err := readPlan(in.ContentType, in.RawBody, s.Each, object.DecodeApply)
	if err != nil {
		return nil, err
	}
	in.RawBody = nil // it waits for a commit
	p := &req.Plan
	if err := s.checkSeal(p); err != nil {
		return nil, err
	}
	if err := s.checkPlan(p); err != nil {
		return nil, err
	}
	if len(req.Attempt) > object.AttemptLength {
		return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "the attempt's name has %d bytes, and may have %d", len(req.Attempt), object.AttemptLength)
	}
	if !req.AllowUnplaced && len(p.Forecast.Unplaced) > 0 {
		return nil, unplaceable(p)
	}
	who := identityOf(ctx)
	if p.Operation != nil {
		return s.operate(ctx, req, who.author())
	}
	filled := map[object.SecretAt]object.Sensitive{} // seal once, however often the number is taken
	return s.commit(ctx, req, func(v *state.Snapshot) (c object.Changeset, a object.Applied, err error) {
		full, err := s.fill(v, req, filled)
		if err != nil {
			return c, a, err
		}
		c, made := object.Commit(full, v.Get, who.author(), s.Now().UTC())
		sign(&c, req.Attempt)
		return c, applied(p, made), nil
	})
}

// commit writes what a sealed plan makes of the state, unless the plan is stale.
func (s *Server) commit(ctx context.Context, req *object.ApplyRequest, changeset func(*state.Snapshot) (object.Changeset, object.Applied, error)) (*answer[object.Applied], error) {
	p := &req.Plan
	for try := 1; ; try++ {
		v := s.Cluster.Snapshot()
		if a, ok := repeated(v, req, identityOf(ctx).author()); ok {
			return &answer[object.Applied]{Body: a}, nil
		}
		for _, x := range p.Expect {
			if err := stale(v, p, x, "the plan was made at "+p.Time.UTC().Format(time.RFC3339)); err != nil {
				return nil, err
			}
		}
		if err := s.guard(ctx, v, req); err != nil {
			return nil, err
		}
		c, applied, err := changeset(v)
		if err != nil {
			return nil, err
		}
		if err := s.admit(ctx, v, &c, p); err != nil {
			return nil, err
		}
		if applied.Index, err = s.Cluster.Propose(ctx, c); err == nil {
			return &answer[object.Applied]{Body: applied}, nil
		}
		switch object.CodeOf(err) {
		case object.CodeConflict, object.CodeExists, object.CodeNotFound:
			// Another apply took the number, or the next round finds the plan stale.
			if try < attempts && ctx.Err() == nil {
				continue
			}
		}
		return nil, err
	}
}

// checkSeal refuses a plan that these masters have not made exactly so.
func (s *Server) checkSeal(p *object.Plan) error {
	if p.Seal == "" {
		return &object.Error{Code: object.CodeInvalid, Message: "the plan has not been sealed by the masters", Hint: "Plan first (POST /v1/plan), then apply what that answers."}
	}
	if own := s.Keys.Cluster(); p.Cluster != own {
		e := object.Errorf(object.CodeInvalid, object.Ref{}, "the plan was made for cluster %s, but this is cluster %s", p.Cluster, own)
		e.Hint = "Check the context, or plan again here."
		return e
	}
	holds, err := s.Keys.Verify(s.sealed(p), p.Seal)
	if err != nil {
		return err
	}
	if !holds {
		return &object.Error{Code: object.CodeInvalid, Message: "the plan is not as the masters sealed it: it has been edited or damaged", Hint: "Plan again; to change what a plan does, change the configuration."}
	}
	return expired(p, s.Now())
}

// sealed writes what the seal of a plan is over.
func (s *Server) sealed(p *object.Plan) func(io.Writer) error {
	return func(w io.Writer) error { return p.WriteSealing(w, s.Each) }
}

// unplaceable is the error for a plan whose forecast has pods that fit nowhere.
func unplaceable(p *object.Plan) error {
	u := p.Forecast.Unplaced
	e := &object.Error{
		Code: object.CodeUnplaceable, Ref: u[0].Pod,
		Message: fmt.Sprintf("fits on no node: %s", u[0].Reason),
		Hint:    "Ask for less, add nodes, or apply with --allow-unplaced.",
	}
	if len(u) > 1 {
		e.Message = fmt.Sprintf("%d pods fit on no node; the first: %s", len(u), u[0].Reason)
	}
	for _, x := range u {
		e.Diagnostics = append(e.Diagnostics, object.Diagnostic{Severity: object.SeverityError, Address: x.Pod.String(), Summary: "Fits on no node", Detail: x.Reason})
	}
	return e
}

// fill puts what the masters hold into a plan: the objects in force as what it
// was before (a planner's plan has no digests there), and ciphertexts.
func (s *Server) fill(v *state.Snapshot, req *object.ApplyRequest, filled map[object.SecretAt]object.Sensitive) (*object.Plan, error) {
	p := &req.Plan
	full := *p
	full.Changes = append([]object.PlannedChange(nil), p.Changes...)
	for i := range full.Changes {
		c := &full.Changes[i]
		c.Before = object.Any{}
		now := c.Ref
		if c.Moved() {
			now = c.From
		}
		if o, ok := v.Get(now); ok {
			if pod, isPod := o.(*object.Pod); isPod {
				o = v.Expand(pod) // its template may be gone when it has to be put back
			}
			c.Before.Object = o
		}
	}
	return full.FillSensitive(v.Get, func(r object.Ref, key string, want object.Sensitive) (object.Sensitive, error) {
		at := object.SecretAt{Ref: r, Key: key}
		if have, ok := filled[at]; ok {
			return have, nil
		}
		text, ok := req.Secrets[want.Digest]
		if !ok && (p.Target != 0 || p.Restore != nil) {
			// On the way back nobody has the configuration of then, but the
			// revisions keep what was in force.
			for _, stack := range p.Stacks() {
				if former, kept := sealedBefore(v, stack, r, key, want.Digest); kept {
					filled[at] = former
					return former, nil
				}
			}
		}
		if !ok && p.Restore != nil {
			var err error
			if text, ok, err = s.unsealed(req, at); err != nil {
				return object.Sensitive{}, err
			}
		}
		if !ok || want.Digest == "" {
			e := object.Errorf(object.CodeInvalid, r, "the plan writes key %q, but its value did not come with the plan", key)
			e.Hint = "A plan holds no secrets: apply it in its configuration's directory, with the same variables."
			if p.Restore != nil {
				e.Hint = "A plan holds no secrets: apply it where the snapshot can be read, at " + p.Restore.Snapshot.File + "."
			}
			return object.Sensitive{}, e
		}
		if s.Keys.Digest(text) != want.Digest {
			e := object.Errorf(object.CodeStale, r, "the value of key %q is not the one that was planned", key)
			e.Hint = "Plan again with the present variables."
			return object.Sensitive{}, e
		}
		sealed, err := s.Keys.Seal(r, key, text)
		if err == nil {
			filled[at] = sealed
		}
		return sealed, err
	})
}

// sealedBefore finds a value that a secret of the stack once had, by its digest.
func sealedBefore(v *state.Snapshot, stack string, secret object.Ref, key, digest string) (object.Sensitive, bool) {
	if digest == "" {
		return object.Sensitive{}, false
	}
	for rev := range state.All[*object.Revision](v, object.KindRevision, state.OfStack(stack)) {
		for _, c := range rev.Spec.Changes {
			if c.Ref != secret {
				continue
			}
			for _, side := range []object.Any{c.Before, c.After} {
				if s, ok := side.Object.(*object.Secret); ok {
					if have := s.Spec.Data[key]; have.Digest == digest && len(have.Sealed) > 0 {
						return have, true
					}
				}
			}
		}
	}
	return object.Sensitive{}, false
}

type digestInput struct {
	Body body[object.DigestRequest]
}

// postDigests lets a planner compare values with what the masters hold, without
// either side showing them.
func (s *Server) postDigests(ctx context.Context, in *digestInput) (*answer[object.Digests], error) {
	req, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	if len(req.At) != 0 && len(req.At) != len(req.Values) {
		return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("at has %d entries for %d values", len(req.At), len(req.Values)), Hint: "Give one for each value, or none."}
	}
	v := s.Cluster.Snapshot()
	out := object.Digests{Digests: make([]string, len(req.Values))}
	for i, value := range req.Values {
		out.Digests[i] = s.Keys.Digest(value)
		if len(req.At) == 0 {
			continue
		}
		x, ok := state.Find[*object.Secret](v, req.At[i].Ref)
		same := false
		if ok {
			have, there := x.Spec.Data[req.At[i].Key]
			same = there && have.Digest == out.Digests[i]
		}
		out.Same = append(out.Same, same)
	}
	if len(req.At) > 0 {
		var about []string
		for _, a := range req.At {
			about = append(about, a.Ref.String()+"#"+a.Key)
		}
		s.Log.Debug("values were compared with secrets", "who", identityOf(ctx).Name, "secrets", strings.Join(about, " "))
	}
	return &answer[object.Digests]{Body: out}, nil
}
