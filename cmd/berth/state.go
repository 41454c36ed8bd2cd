package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/planner"
)

// StateCmd is `berth state`.
type StateCmd struct {
	List StateListCmd `cmd:"" help:"List the objects that the stack owns."`
	Show StateShowCmd `cmd:"" help:"Show objects of the stack as blocks that would declare them."`
	Mv   StateMvCmd   `cmd:"" help:"Rename an object without restarting its pods, as a moved block does."`
	Rm   StateRmCmd   `cmd:"" help:"Let go of objects without ending them, as a removed block with destroy = false does."`
}

// StackFlag names the stack.
type StackFlag struct {
	Stack string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
}

// owned is what a stack owns, as the masters have it.
type owned struct {
	stack   string
	client  *client.Client
	v       *state.Snapshot
	objects []object.Object
}

func (s *session) owned(f StackFlag) (owned, error) {
	name, err := s.stack(f.Stack)
	if err != nil {
		return owned{}, err
	}
	cl, err := s.connect()
	if err != nil {
		return owned{}, err
	}
	v, err := fetch(s.ctx, cl, planner.Request{Stack: name}, nil)
	if err != nil {
		return owned{}, err
	}
	out := owned{stack: name, client: cl, v: v}
	for _, o := range declared(v, name) {
		out.objects = append(out.objects, o.Object)
	}
	return out, nil
}

var (
	modulePath  = regexp.MustCompile(`^(module\.[^.\[]+(\[[^\]]*\])?\.)+`)
	instanceKey = regexp.MustCompile(`^([a-z_]+)\.([^\[]+)\[(.+)\]$`)
)

// withoutKey is an address as objects are named: module.a.pod.w["eu"] is pod.w-eu.
func withoutKey(address string) string {
	address = modulePath.ReplaceAllString(address, "")
	m := instanceKey.FindStringSubmatch(address)
	if m == nil {
		return address
	}
	key := m[3]
	if text, err := strconv.Unquote(key); err == nil {
		key = text
	}
	return m[1] + "." + m[2] + "-" + key
}

// find is the object that an address names: deployment.web, deployment.web["eu"],
// module.site.deployment.web or deployment/namespace/web.
func (x owned) find(address string) (object.Object, error) {
	plain := withoutKey(address)
	var found []object.Object
	var known []string
	for _, o := range x.objects {
		r := o.Ref()
		if r.Address() == plain || r.String() == address {
			found = append(found, o)
		}
		known = append(known, r.Address())
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("the stack %s owns no %s", x.stack, address),
			Hint: strings.TrimSpace(object.DidYouMean(plain, known) + " See: berth state list --stack " + x.stack)}
	}
	return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%s is %d objects of the stack %s", address, len(found), x.stack),
		Hint: "Name one of them whole: " + found[0].Ref().String()}
}

// steer commits a plan that changes what the stack owns, and waits until it has.
func (s *session) steer(cl *client.Client, v *state.Snapshot, r planner.Request) error {
	p, diags := planner.Steer(v, r)
	if s.diagnose(diags) {
		return exitCode(exitError)
	}
	if p.Empty() {
		return nil
	}
	sealed, err := cl.Plan(s.ctx, &p)
	if err != nil {
		return err
	}
	applied, err := cl.Apply(s.ctx, object.ApplyRequest{Plan: *sealed, AllowUnplaced: true})
	if err != nil {
		return err
	}
	rev, err := s.follow(cl, applied, true)
	if err != nil {
		return err
	}
	if rev.Status.Phase != object.RevisionHealthy && rev.Status.Phase != object.RevisionSuperseded {
		return &object.Error{Code: object.CodeConflict, Message: fmt.Sprintf("revision %d of %s is %s: %s", applied.Number, applied.Stack, rev.Status.Phase, rev.Status.Message), Hint: "See: berth rollout status --stack " + applied.Stack}
	}
	return nil
}

// StateListCmd is `berth state list`.
type StateListCmd struct {
	StackFlag
	JSONFlag
	Prefix []string `arg:"" optional:"" name:"address" help:"Only what begins so, such as deployment or module."`
}

// Run prints an address a line.
func (c *StateListCmd) Run(s *session) error {
	x, err := s.owned(c.StackFlag)
	if err != nil {
		return err
	}
	refs := []string{}
	for _, o := range x.objects {
		address := o.Ref().Address()
		if len(c.Prefix) == 0 || slices.ContainsFunc(c.Prefix, func(p string) bool { return strings.HasPrefix(address, p) }) {
			refs = append(refs, address)
		}
	}
	if c.JSON {
		return s.json(refs)
	}
	for _, r := range refs {
		fmt.Fprintln(s.stdout, r)
	}
	return nil
}

// StateShowCmd is `berth state show`.
type StateShowCmd struct {
	StackFlag
	JSONFlag
	Address string `arg:"" help:"Such as deployment.web."`
}

// Run prints one object.
func (c *StateShowCmd) Run(s *session) error {
	x, err := s.owned(c.StackFlag)
	if err != nil {
		return err
	}
	o, err := x.find(c.Address)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(object.Any{Object: o})
	}
	return view.Show(s.stdout, []object.Object{o}, s.style(s.stdout))
}

// StateMvCmd is `berth state mv`.
type StateMvCmd struct {
	StackFlag
	From string `arg:"" help:"What it is called: deployment.web."`
	To   string `arg:"" help:"What it is to be called: deployment.front."`
}

// Run renames.
func (c *StateMvCmd) Run(s *session) error {
	x, err := s.owned(c.StackFlag)
	if err != nil {
		return err
	}
	o, err := x.find(c.From)
	if err != nil {
		return err
	}
	from := o.Ref()
	kind, name, ok := strings.Cut(withoutKey(c.To), ".")
	to := object.Ref{Kind: object.Kind(kind), Namespace: from.Namespace, Name: name}
	switch {
	case !ok || strings.ContainsAny(name, "./[]"):
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%q is not an address", c.To), Hint: "Write it as deployment.front, or deployment.front[\"eu\"]."}
	case to.Kind != from.Kind:
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%s cannot become %s: the kind of an object stays", c.From, c.To), Hint: "Name it " + string(from.Kind) + "." + name + "."}
	case to == from:
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%s is called so already", c.To), Hint: "Modules are no part of an object's name."}
	}
	switch to.Kind {
	case object.KindPod, object.KindNamespace, object.KindNode, object.KindNetwork:
		return &object.Error{Code: object.CodeInvalid, Ref: from, Message: fmt.Sprintf("a %s cannot be renamed", to.Kind), Hint: "Declare it under the new name: the plan ends the old one and makes the new."}
	case object.KindSecret:
		return &object.Error{Code: object.CodeInvalid, Ref: from, Message: "the values of a secret are sealed under its name", Hint: "Rename it in the configuration, with moved { from = " + from.Address() + "  to = " + to.Address() + " }: its values are there."}
	}
	if taken, err := x.client.Get(s.ctx, to); err == nil {
		return &object.Error{Code: object.CodeExists, Ref: to, Message: "exists already" + ofStack(taken), Hint: "Choose another name."}
	} else if !object.IsCode(err, object.CodeNotFound) {
		return err
	}
	if err := s.steer(x.client, x.v, planner.Request{Version: version, Stack: x.stack, Cause: "mv", Moves: []planner.Move{{From: from, To: to}}}); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Moved %s to %s. Name it so in the configuration, too, before the next plan.\n", from.Address(), to.Address())
	return nil
}

func ofStack(o object.Object) string {
	if s := o.Head().Stack; s != "" {
		return " and belongs to the stack " + s
	}
	return ""
}

// StateRmCmd is `berth state rm`.
type StateRmCmd struct {
	StackFlag
	Address []string `arg:"" help:"Such as deployment.web."`
}

// Run lets go of objects; they stay as they are.
func (c *StateRmCmd) Run(s *session) error {
	x, err := s.owned(c.StackFlag)
	if err != nil {
		return err
	}
	r := planner.Request{Version: version, Stack: x.stack, Cause: "rm"}
	for _, address := range c.Address {
		o, err := x.find(address)
		if err != nil {
			return err
		}
		r.Removals = append(r.Removals, planner.Removal{Ref: o.Ref()})
	}
	if err := s.steer(x.client, x.v, r); err != nil {
		return err
	}
	for _, o := range r.Removals {
		fmt.Fprintf(s.stdout, "Let go of %s: it stays, and belongs to no stack. Take it out of the configuration, too, or the next apply adopts it again.\n", o.Ref.Address())
	}
	return nil
}

// ImportCmd is `berth import`.
type ImportCmd struct {
	VariableFlags
	Address string `arg:"" help:"Address in the configuration, such as deployment.web."`
	ID      string `arg:"" optional:"" help:"The object, as KIND/NAMESPACE/NAME; it has to be the one of that address."`
}

// Run takes one object into the stack as it is; the next plan shows what the
// configuration would change of it.
func (c *ImportCmd) Run(s *session) error {
	cfg, err := s.load(c.VariableFlags)
	if err != nil {
		return err
	}
	all := desired(cfg)
	known := make([]string, len(all))
	at := -1
	for i := range all {
		if known[i] = all[i].Address; known[i] == c.Address {
			at = i
		}
	}
	if at < 0 {
		return &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("the configuration declares no %s", c.Address),
			Hint: strings.TrimSpace(object.DidYouMean(c.Address, known) + " Write its block first, then import.")}
	}
	ref := all[at].Object.Ref()
	if c.ID != "" && c.ID != ref.String() && c.ID != ref.Name && c.ID != ref.Namespace+"/"+ref.Name {
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%s is the object %s, not %s", c.Address, ref, c.ID), Hint: "An object keeps its name when it is imported: name the block as the object is named."}
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	o, err := cl.Get(s.ctx, ref)
	if err != nil {
		return s.withNames(cl, ref, err)
	}
	if o.Head().Stack == cfg.Stack {
		fmt.Fprintf(s.stdout, "%s belongs to the stack %s already.\n", c.Address, cfg.Stack)
		return nil
	}
	objects := []object.Object{o}
	stack, err := cl.Get(s.ctx, object.Ref{Kind: object.KindStack, Name: cfg.Stack})
	switch {
	case err == nil:
		objects = append(objects, stack)
	case !object.IsCode(err, object.CodeNotFound):
		return err
	}
	r := planner.Request{Version: version, Stack: cfg.Stack, Cause: "import", Imports: []planner.Import{{Ref: ref, Range: all[at].Range}}}
	if err := s.steer(cl, state.Load(o.Head().Version, objects).Snapshot(), r); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Imported %s: %s belongs to the stack %s now. See what the configuration would change of it with: berth plan\n", c.Address, ref, cfg.Stack)
	return nil
}
