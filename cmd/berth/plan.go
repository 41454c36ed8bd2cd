package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/planner"
)

// PlanFlags are common to plan, apply and destroy.
type PlanFlags struct {
	VariableFlags
	GuardFlags
	PinFlag
	Target    []string `placeholder:"ADDRESS" help:"Only this object and what it needs, such as deployment.web."`
	OnFailure string   `enum:"revert,pause" default:"revert" help:"What a rollout that fails does: ${enum}."`
}

// PlanStackCmd is `berth plan` without an operation.
type PlanStackCmd struct {
	PlanFlags
	PlanOutput
	ExplainFlag
	Destroy bool `help:"Plan the end of everything that the stack declares."`
}

// Run plans and shows. Pods that fit nowhere make the exit code 6.
func (c *PlanStackCmd) Run(s *session) error {
	format := c.format()
	s.annotate = format == "github"
	s.lifetime, s.asked = c.Expire, c.asked()
	made, err := s.plan(c.PlanFlags, c.Destroy, format == "text")
	if err != nil {
		return err
	}
	return s.deliver(made.plan, c.PlanOutput, made.page)
}

// PlanOutput is where a plan goes.
type PlanOutput struct {
	PlanFormat
	Out              string `placeholder:"FILE" type:"path" help:"Save the plan; berth apply FILE does exactly that."`
	DetailedExitcode bool   `help:"Exit with 0: no changes, 1: error, 2: changes."`

	Policy []string `type:"path" placeholder:"FILE" help:"Judge by this policy file, too, or by the *.policy.hcl of a directory, before a cluster has it."`

	Expire object.Duration `placeholder:"DURATION" help:"For how long the plan can be applied, such as 24h; default: 168h, a week. At most 2160h."`
}

// deliver saves and prints a sealed plan, and exits as its readers expect. page is
// the text as far as it has been written already, or nil.
func (s *session) deliver(p *object.Plan, o PlanOutput, page *view.Draft) error {
	if o.Out != "" {
		if err := writePlan(o.Out, p); err != nil {
			return err
		}
	}
	p, err := s.judgeLocally(p, o.Policy)
	if err != nil {
		return err
	}
	if err := o.into(p); err != nil {
		return err
	}
	if page != nil {
		page.Finish(s.stdout, p)
	} else if err := s.showPlan(o.format(), p); err != nil {
		return err
	}
	if err := s.showExplanation(o.format(), p); err != nil {
		return err
	}
	if o.format() == "text" && o.Out != "" && !p.Empty() {
		fmt.Fprintf(s.stdout, "\nSaved the plan to: %s\n\nTo perform exactly these actions, run:\n    berth apply %q\n", o.Out, o.Out)
	}
	switch {
	case len(p.Broken) > 0:
		s.tell(object.Broken(p.Broken))
		return exitCode(exitPolicy)
	case s.refused(p):
		return exitCode(exitPolicy)
	case len(p.Forecast.Unplaced) > 0:
		return exitCode(exitUnplaceable)
	case o.DetailedExitcode && !p.Empty():
		return exitCode(exitChanges)
	}
	return nil
}

// PlanFormat chooses how a plan is printed.
type PlanFormat struct {
	JSONFlag
	Format   string `enum:"text,json,markdown,github" default:"text" help:"How to print it: ${enum}. markdown is for a comment on a pull request, github annotates the lines of the configuration."`
	JSONInto string `name:"json-into" placeholder:"FILE" type:"path" help:"Write the plan's JSON to this file besides."`
}

// format is what to print; --json is short for one of them.
func (f PlanFormat) format() string {
	if f.JSON {
		return "json"
	}
	return f.Format
}

// into writes the JSON file, if one is asked for.
func (f PlanFormat) into(p *object.Plan) error {
	if f.JSONInto == "" {
		return nil
	}
	return writeWhole(f.JSONInto, func(w io.Writer) error { return view.PlanJSON(w, p) })
}

// showPlan prints a plan that is complete. What its warnings are about has been
// told when it was made.
func (s *session) showPlan(format string, p *object.Plan) error {
	switch format {
	case "json":
		return view.PlanJSON(s.stdout, p)
	case "markdown":
		return view.Markdown(s.stdout, p)
	case "github":
		return view.PlanAnnotations(s.stdout, p)
	}
	return view.Plan(s.stdout, p, s.style(s.stdout))
}

func writePlan(file string, p *object.Plan) error {
	return writeWhole(file, func(w io.Writer) error { return planner.WritePlan(w, p) })
}

// writeWhole writes beside the file first: a failure leaves no half of it.
func writeWhole(file string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".berth-plan-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// forecast is the planner's rehearsal as the masters call it; package cluster
// does not import the planner.
func forecast(_ context.Context, v *state.Snapshot, waiting *controller.Queue, p *object.Plan, now time.Time) (object.Forecast, error) {
	return planner.ForecastFrom(waiting, v.Fork(), p, now, planner.DefaultNodes, consensus.Parallel), nil
}

// planned is a sealed plan, ready to be shown and applied.
type planned struct {
	plan    *object.Plan
	page    *view.Draft       // nil unless asked for
	secrets map[string]string // the plain values of the secrets in it, by digest
	client  *client.Client
}

// plan goes the whole way from the directory to a sealed plan with its forecast.
// With show, the page is written while the masters rehearse.
func (s *session) plan(f PlanFlags, destroy, show bool) (*planned, error) {
	var cfg *hcl.Configuration
	s.pin = f.PinImages
	r := planner.Request{Version: version, Now: time.Now(), Targets: f.Target, Destroy: destroy, OnFailure: f.OnFailure}
	if stack, _, ok := hcl.Identify(s.flags.Chdir); ok && destroy {
		// What is to end need not be valid any more.
		r.Stack = stack
	} else {
		var err error
		if cfg, err = s.load(f.VariableFlags); err != nil {
			return nil, err
		}
		r.Stack, r.Source, r.Outputs = cfg.Stack, cfg.Source, cfg.Outputs
	}
	cl, err := s.connect()
	if err != nil {
		return nil, err
	}
	var secrets secretValues
	if cfg != nil {
		if secrets, err = digestSecrets(s.ctx, cl, cfg); err != nil {
			return nil, err
		}
		r.Objects = desired(cfg)
		refactored(&r, cfg)
	}
	v, err := fetch(s.ctx, cl, r, secrets.held)
	if err != nil {
		return nil, err
	}
	p, diags := planner.Diff(v, r)
	if s.diagnose(diags) {
		return nil, exitCode(exitError)
	}
	out := &planned{client: cl, secrets: secrets.plain}
	var g errgroup.Group
	if show {
		g.Go(func() error {
			out.page = view.NewDraft(&p, s.style(s.stdout))
			return nil
		})
	}
	g.Go(func() (err error) {
		out.plan, err = s.sealed(cl, &p, f.GuardFlags)
		return err
	})
	err = g.Wait()
	var refused *object.Error
	switch {
	case errors.As(err, &refused) && len(refused.Diagnostics) > 0:
		s.diagnose(placed(refused.Diagnostics, r))
		return nil, exitCode(exitError)
	case err == nil:
		s.diagnose(placed(slices.Clone(out.plan.Warnings[len(p.Warnings):]), r)) // the plan's own are sealed
	}
	if err == nil && cfg != nil {
		out.plan, err = s.conditions(cl, cfg, &p, out.plan, out.page)
	}
	return out, err
}

// desired is what a configuration asks the planner for.
func desired(cfg *hcl.Configuration) []planner.Desired {
	list := make([]planner.Desired, len(cfg.Objects))
	for i := range cfg.Objects {
		d := &cfg.Objects[i]
		list[i] = planner.Desired{Address: d.Address, Object: d.Object, DependsOn: slices.Concat(d.References, d.DependsOn), Ignore: d.IgnoreChanges, Range: &d.Range}
	}
	return list
}

// placed puts the places of a configuration into what the masters found, who see
// no files.
func placed(d object.Diagnostics, r planner.Request) object.Diagnostics {
	ranges := make(map[string]*object.Range, len(r.Objects))
	for i := range r.Objects {
		ranges[r.Objects[i].Address] = r.Objects[i].Range
	}
	for i := range d {
		if d[i].Range == nil {
			d[i].Range = ranges[d[i].Address]
		}
	}
	return d
}

// secretValues is what the masters told of a configuration's secret values.
type secretValues struct {
	plain map[string]string          // by keyed digest
	held  map[object.SecretAt]string // digest of what a secret in force holds already
}

// digestSecrets asks the masters for the keyed digests of the configuration's
// secret values, and puts them in.
func digestSecrets(ctx context.Context, cl *client.Client, cfg *hcl.Configuration) (secretValues, error) {
	type place struct {
		secret *object.Secret
		key    string
	}
	out := secretValues{plain: map[string]string{}, held: map[object.SecretAt]string{}}
	var places []place
	var request object.DigestRequest
	for i := range cfg.Objects {
		secret, ok := cfg.Objects[i].Object.(*object.Secret)
		if !ok {
			continue
		}
		secret.Spec.Data = maps.Clone(secret.Spec.Data)
		for _, key := range slices.Sorted(maps.Keys(secret.Spec.Data)) {
			plain, ok := secret.Spec.Data[key].Reveal()
			if !ok {
				return out, fmt.Errorf("%s: the value of %q is not known here", cfg.Objects[i].Address, key)
			}
			places = append(places, place{secret, key})
			request.Values = append(request.Values, plain)
			request.At = append(request.At, object.SecretAt{Ref: secret.Ref(), Key: key})
		}
	}
	if len(places) == 0 {
		return out, nil
	}
	digests, err := cl.Compare(ctx, request)
	if err != nil {
		return out, err
	}
	for i, p := range places {
		digest := digests.Digests[i]
		p.secret.Spec.Data[p.key] = p.secret.Spec.Data[p.key].WithDigest(digest)
		out.plain[digest] = request.Values[i]
		if i < len(digests.Same) && digests.Same[i] {
			out.held[request.At[i]] = digest
		}
	}
	return out, nil
}

// fetch reads what the diff needs: what of the stack, and of what the
// configuration names besides, is not as the configuration has it. held fills in
// the digests that a planner may not read, of values that are.
func fetch(ctx context.Context, cl *client.Client, r planner.Request, held map[object.SecretAt]string) (*state.Snapshot, error) {
	claims := claim(r)
	a, err := cl.Stack(ctx, r.Stack, claims)
	if err != nil {
		return nil, err
	}
	for _, o := range a.Objects {
		secret, ok := o.Object.(*object.Secret)
		if !ok {
			continue
		}
		for key, v := range secret.Spec.Data {
			if digest, same := held[object.SecretAt{Ref: secret.Ref(), Key: key}]; same && v.Digest == "" {
				secret.Spec.Data[key] = v.WithDigest(digest)
			}
		}
	}
	return planner.InForce(r, claims, a), nil
}

// claim makes the planner's claims on as many goroutines as there are processors.
func claim(r planner.Request) []object.Claim {
	parts := make([][]object.Claim, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i := range parts {
		part := r
		part.Objects = r.Objects[len(r.Objects)*i/len(parts) : len(r.Objects)*(i+1)/len(parts)]
		wg.Go(func() { parts[i] = planner.Claims(part) })
	}
	wg.Wait()
	return slices.Concat(parts...)
}

// ShowFileCmd is `berth show` of a saved plan, or of the stack.
type ShowFileCmd struct {
	PlanFormat
	File string `arg:"" optional:"" type:"path" help:"A saved plan; without one, the stack as the masters hold it."`
}

// Run shows a plan as plan did, or the stack's objects as HCL.
func (c *ShowFileCmd) Run(s *session) error {
	if c.File != "" {
		p, err := readPlan(c.File)
		if err != nil {
			return err
		}
		if err := c.into(p); err != nil {
			return err
		}
		if c.format() == "github" {
			if err := view.Annotations(s.stdout, p.Warnings); err != nil {
				return err
			}
		}
		if err := s.showPlan(c.format(), p); err != nil || c.format() != "text" {
			return err
		}
		return view.Terms(s.stdout, p, s.style(s.stdout))
	}
	if f := c.format(); f != "text" && f != "json" || c.JSONInto != "" {
		return &object.Error{Code: object.CodeInvalid, Message: "--format markdown, --format github and --json-into are for plans", Hint: "Name a saved plan: berth show FILE. A stack is shown as text or with --json."}
	}
	stack, err := s.stack("")
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	v, err := fetch(s.ctx, cl, planner.Request{Stack: stack}, nil)
	if err != nil {
		return err
	}
	objects := declared(v, stack)
	if c.format() == "json" {
		return s.json(object.Page{Index: v.Index(), Items: objects})
	}
	list := make([]object.Object, len(objects))
	for i, o := range objects {
		list[i] = o.Object
	}
	return view.Show(s.stdout, list, s.style(s.stdout))
}

// declared are the objects that a stack's configuration declares, in the order
// of kinds and names.
func declared(v *state.Snapshot, stack string) []object.Any {
	var out []object.Any
	for _, info := range object.Kinds() {
		if !info.Declared {
			continue
		}
		for o := range v.List(info.Kind, state.OfStack(stack)) {
			if o.Head().Owner.IsZero() {
				out = append(out, object.Any{Object: o})
			}
		}
	}
	return out
}

func readPlan(file string) (*object.Plan, error) {
	b, err := os.ReadFile(file)
	switch info, statErr := os.Stat(file); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &object.Error{Code: object.CodeNotFound, Message: "there is no saved plan " + file, Hint: "berth plan --out FILE writes one. To apply a directory, name it with -C."}
	case statErr == nil && info.IsDir():
		return nil, &object.Error{Code: object.CodeInvalid, Message: file + " is a directory, not a saved plan", Hint: "To apply a directory, name it with -C: berth -C " + file + " apply"}
	case err != nil:
		return nil, err
	}
	return planner.ReadPlan(file, b)
}

// stack is the flag, else the name of the configuration in the directory.
func (s *session) stack(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if name, _, ok := hcl.Identify(s.flags.Chdir); ok {
		return name, nil
	}
	return "", &object.Error{Code: object.CodeInvalid, Message: "there is no configuration in " + s.flags.Chdir,
		Hint: "Name its directory with -C, or the stack with --stack."}
}

// OutputCmd is `berth output`.
type OutputCmd struct {
	JSONFlag
	Raw   bool   `help:"Print a string without quotation marks."`
	Stack string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
	Name  string `arg:"" optional:"" help:"One output only."`
}

// Run prints outputs as the last apply left them.
func (c *OutputCmd) Run(s *session) error {
	name, err := s.stack(c.Stack)
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	stack, err := client.Get[*object.Stack](s.ctx, cl, object.Ref{Kind: object.KindStack, Name: name})
	if err != nil && !object.IsCode(err, object.CodeNotFound) {
		return err
	}
	outputs := map[string]object.Output{}
	if err == nil && stack.Spec.Outputs != nil {
		outputs = stack.Spec.Outputs
	}
	if c.Name == "" {
		if c.JSON {
			return s.json(outputs)
		}
		return view.Outputs(s.stdout, outputs, s.style(s.stdout))
	}
	out, ok := outputs[c.Name]
	switch {
	case !ok:
		return &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("the stack %s has no output %q", name, c.Name),
			Hint: object.DidYouMean(c.Name, slices.Sorted(maps.Keys(outputs)))}
	case out.Sensitive:
		return errors.New("the output is sensitive: its value is not stored")
	case c.JSON:
		return s.json(out.Value)
	case c.Raw:
		switch v := out.Value.(type) {
		case string:
			_, err := io.WriteString(s.stdout, v)
			return err
		case bool, float64:
			b, err := json.Marshal(v) // 1000000 and not 1e+06
			if err == nil {
				_, err = s.stdout.Write(b)
			}
			return err
		}
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("the output %q is neither text, number, true nor false, and --raw prints only those", c.Name), Hint: "Take --json."}
	}
	return view.Output(s.stdout, out, s.style(s.stdout))
}
