package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
)

// reference reads what people type for an object: kind/name, kind.name,
// kind/namespace/name, or a bare name of the assumed kind.
func (s *session) reference(text string, f NamespaceFlags, assumed object.Kind) (object.Ref, error) {
	if !strings.Contains(text, "/") {
		if kind, name, ok := strings.Cut(text, "."); ok {
			if k, err := object.ParseKind(kind); err == nil {
				text = string(k) + "/" + name
			}
		}
	}
	r := object.Ref{Kind: assumed, Name: text}
	if strings.Contains(text, "/") {
		var err error
		if r, err = object.ParseRef(text); err != nil {
			return r, err
		}
	}
	info, ok := object.Info(r.Kind)
	if !ok {
		return r, object.Errorf(object.CodeInvalid, object.Ref{}, "say what %q is: kind/name, such as deployment/%s", text, text)
	}
	switch {
	case !info.Namespaced:
		r.Namespace = ""
	case r.Namespace == "":
		if r.Namespace = s.namespace(f); r.Namespace == "" {
			return r, object.Errorf(object.CodeInvalid, object.Ref{}, "%s %q: say in which namespace, with -n", r.Kind, r.Name)
		}
	}
	return r, nil
}

// GetCmd is `berth get`.
type GetCmd struct {
	NamespaceFlags
	JSONFlag
	Kind   string            `arg:"" complete:"kind" help:"A kind, or kind/name: pods, deploy, svc, node/n1, …"`
	Names  []string          `arg:"" optional:"" help:"Only these."`
	Labels map[string]string `short:"l" placeholder:"KEY=VALUE" help:"Only those that carry the labels."`
	Stack  string            `complete:"stack" placeholder:"NAME" help:"Only those of the stack."`
	Watch  bool              `short:"w" help:"Go on with each change."`
	Wide   bool              `help:"More columns: images, labels, messages."`
}

// Run lists. Names that do not exist are an error, after those that do.
func (c *GetCmd) Run(s *session) error {
	if kind, name, ok := strings.Cut(c.Kind, "/"); ok {
		c.Kind, c.Names = kind, append([]string{name}, c.Names...)
	}
	kind, err := object.ParseKind(c.Kind)
	if err != nil {
		return err
	}
	info, _ := object.Info(kind)
	namespace := ""
	if info.Namespaced {
		namespace = s.namespace(c.NamespaceFlags)
	}
	if c.Watch {
		return s.watchTable(kind, namespace, c)
	}
	keep := func(o object.Object) bool {
		return object.HasLabels(o.Head().Labels, c.Labels) && (c.Stack == "" || o.Head().Stack == c.Stack) &&
			(len(c.Names) == 0 || slices.Contains(c.Names, o.Head().Name))
	}
	found, err := s.list(kind, namespace, keep, c.JSON, c.Wide)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range c.Names {
		if !slices.Contains(found, name) {
			errs = append(errs, object.Errorf(object.CodeNotFound, object.Ref{Kind: kind, Namespace: namespace, Name: name}, "does not exist"))
		}
	}
	return errors.Join(errs...)
}

// list prints the objects of a kind that keep wants, and returns their names.
func (s *session) list(kind object.Kind, namespace string, keep func(object.Object) bool, asJSON, wide bool) ([]string, error) {
	cl, err := s.connect()
	if err != nil {
		return nil, err
	}
	page, err := cl.List(s.ctx, kind, client.ListOptions{Namespace: namespace})
	if err != nil {
		return nil, err
	}
	if keep != nil {
		page.Items = slices.DeleteFunc(page.Items, func(o object.Any) bool { return !keep(o.Object) })
	}
	names := make([]string, len(page.Items))
	for i, o := range page.Items {
		names[i] = o.Head().Name
	}
	if asJSON {
		if page.Items == nil {
			page.Items = []object.Any{}
		}
		return names, s.json(page)
	}
	if len(page.Items) == 0 {
		where := ""
		if namespace != "" {
			where = " in the namespace " + namespace
		}
		info, _ := object.Info(kind)
		fmt.Fprintf(s.stderr, "There are no %s%s.\n", strings.ReplaceAll(info.Plural, "_", " "), where)
		return names, nil
	}
	list := make([]object.Object, len(page.Items))
	for i, o := range page.Items {
		list[i] = o.Object
	}
	return names, view.Table(s.stdout, kind, list, namespace == "", time.Now(), s.tableStyle(wide))
}

// watchTable prints a line for each change until interrupted.
func (s *session) watchTable(kind object.Kind, namespace string, c *GetCmd) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	err = cl.Watch(s.ctx, client.WatchOptions{Kinds: []object.Kind{kind}, Namespace: namespace, Labels: c.Labels, Stack: c.Stack}, func(e object.WatchEvent) error {
		if e.Ref.IsZero() || len(c.Names) > 0 && !slices.Contains(c.Names, e.Ref.Name) {
			return nil
		}
		if c.JSON {
			return s.json(e)
		}
		if e.Object.IsZero() {
			fmt.Fprintf(s.stdout, "%s is gone\n", e.Ref)
			return nil
		}
		return view.Table(s.stdout, kind, []object.Object{e.Object.Object}, namespace == "", time.Now(), s.tableStyle(c.Wide))
	})
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

// DescribeCmd is `berth describe`.
type DescribeCmd struct {
	NamespaceFlags
	JSONFlag
	Object string `arg:"" complete:"object" help:"The object: deployment/web, node/n1, …"`
}

// Run shows an object, what it owns, and what happened to both.
func (c *DescribeCmd) Run(s *session) error {
	ref, err := s.reference(c.Object, c.NamespaceFlags, "")
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	o, err := cl.Get(s.ctx, ref)
	if err != nil {
		return s.withNames(cl, ref, err)
	}
	if c.JSON {
		return s.json(o)
	}
	d := view.Description{Object: o, Now: time.Now()}
	about := map[object.Ref]bool{ref: true}
	for _, kind := range []object.Kind{object.KindReplicaSet, object.KindPod} {
		page, err := cl.List(s.ctx, kind, client.ListOptions{Namespace: ref.Namespace, Rows: true})
		if err != nil {
			return err
		}
		for _, x := range page.Items {
			pod, isPod := x.Object.(*object.Pod)
			if about[x.Head().Owner] || isPod && ref.Kind == object.KindNode && pod.Spec.Node == ref.Name {
				about[x.Ref()] = true
				if isPod {
					d.Pods = append(d.Pods, pod)
				}
			}
		}
	}
	if err := expand(s.ctx, cl, d.Pods, ref.Namespace); err != nil {
		return err
	}
	events, err := client.List[*object.Event](s.ctx, cl, object.KindEvent, client.ListOptions{})
	if err != nil {
		return err
	}
	for _, e := range events {
		if about[e.Spec.About] {
			d.Events = append(d.Events, e)
		}
	}
	return view.Describe(s.stdout, d, s.style(s.stdout))
}

// expand gives rows of pods their templates, which are few.
func expand(ctx context.Context, cl *client.Client, pods []*object.Pod, namespace string) error {
	if len(pods) == 0 {
		return nil
	}
	templates, err := client.List[*object.Template](ctx, cl, object.KindTemplate, client.ListOptions{Namespace: namespace})
	if err != nil {
		return err
	}
	byRef := map[object.Ref]*object.Template{}
	for _, t := range templates {
		byRef[t.Ref()] = t
	}
	for _, p := range pods {
		if t := byRef[object.Ref{Kind: object.KindTemplate, Namespace: p.Namespace, Name: p.Spec.Template}]; t != nil && p.Spec.Pod == nil {
			p.Spec.Pod = &t.Spec
		}
	}
	return nil
}

// EventsCmd is `berth events`.
type EventsCmd struct {
	NamespaceFlags
	JSONFlag
	Object string `arg:"" optional:"" complete:"object" help:"Only what concerns this object."`
	Follow bool   `short:"f" help:"Go on with what happens."`
}

// Run prints events in the order in which they happened last.
func (c *EventsCmd) Run(s *session) error {
	namespace := s.namespace(c.NamespaceFlags)
	var about object.Ref
	if c.Object != "" {
		var err error
		if about, err = s.reference(c.Object, c.NamespaceFlags, ""); err != nil {
			return err
		}
		namespace = ""
	}
	// What belongs to no namespace is shown in the one that it is kept in, and the
	// revisions of the stack here wherever its objects are.
	here, _, known := hcl.Identify(s.flags.Chdir)
	wanted := func(e *object.Event) bool {
		x := e.Spec.About
		ours := known && x.Kind == object.KindRevision && x.Name[:strings.LastIndexByte(x.Name, '-')+1] == here+"-"
		return (about.IsZero() || x == about) && (namespace == "" || object.EventNamespace(x) == namespace || ours)
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	page, err := cl.List(s.ctx, object.KindEvent, client.ListOptions{})
	if err != nil {
		return err
	}
	var events []*object.Event
	for _, o := range page.Items {
		if e, ok := o.Object.(*object.Event); ok && wanted(e) {
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b *object.Event) int { return a.Spec.Last.Compare(b.Spec.Last) })
	if c.JSON && !c.Follow {
		return s.json(events)
	}
	show := func(events []*object.Event) error {
		if c.JSON {
			for _, e := range events {
				if err := s.json(e); err != nil {
					return err
				}
			}
			return nil
		}
		return view.Events(s.stdout, events, time.Now(), s.style(s.stdout))
	}
	if err := show(events); err != nil || !c.Follow {
		return err
	}
	err = cl.Watch(s.ctx, client.WatchOptions{Kinds: []object.Kind{object.KindEvent}, Since: page.Index}, func(w object.WatchEvent) error {
		if e, ok := w.Object.Object.(*object.Event); ok && wanted(e) {
			return show([]*object.Event{e})
		}
		return nil
	})
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

// WaitCmd is `berth wait`.
type WaitCmd struct {
	NamespaceFlags
	Object  string          `arg:"" complete:"object" help:"The object: deployment/web, pod/x, node/n1, revision/shop-3, …"`
	For     string          `enum:"healthy,gone,exists" default:"healthy" help:"What to wait for: ${enum}."`
	Timeout object.Duration `default:"5m" help:"How long at most."`
}

// Run waits; a time-out is an error of code timeout.
func (c *WaitCmd) Run(s *session) error {
	ref, err := s.reference(c.Object, c.NamespaceFlags, "")
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout.D())
	defer cancel()
	last := "does not exist"
	_, err = cl.WaitFor(ctx, ref, func(o object.Object) (bool, error) {
		switch {
		case o == nil:
			last = "does not exist"
			return c.For == "gone", nil
		case c.For == "exists":
			return true, nil
		case c.For == "gone":
			last = "still exists"
			return false, nil
		}
		healthy, why := object.Healthy(o)
		last = why
		return healthy, nil
	})
	if ctx.Err() != nil && s.ctx.Err() == nil {
		return &object.Error{Code: object.CodeTimeout, Ref: ref, Message: fmt.Sprintf("not %s after %s: %s", c.For, c.Timeout, last), Hint: "See: berth describe " + c.Object}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s: %s\n", ref, c.For)
	return nil
}

// LogsCmd is `berth logs`.
type LogsCmd struct {
	NamespaceFlags
	Object    string          `arg:"" complete:"pod|workload" help:"A pod, or deployment/NAME, replica_set/NAME: all its pods."`
	Container string          `short:"c" placeholder:"NAME" help:"Which container; default: the first."`
	Follow    bool            `short:"f" help:"Go on with what is written."`
	Tail      int             `default:"-1" placeholder:"N" help:"Only the last lines."`
	Since     object.Duration `placeholder:"TIME" help:"Only lines not older than this."`
	Previous  bool            `short:"p" help:"Of the container before its last restart."`
}

// Run prints one pod's log as it is, those of several with the pod's name before
// each line.
func (c *LogsCmd) Run(s *session) error {
	ref, err := s.reference(c.Object, c.NamespaceFlags, object.KindPod)
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	o := client.LogOptions{Container: c.Container, Follow: c.Follow, Tail: c.Tail, Previous: c.Previous, Since: c.Since.D()}
	if ref.Kind == object.KindPod {
		err := copyLog(s.ctx, cl, ref, o, func(line []byte) { s.stdout.Write(line) })
		if s.ctx.Err() != nil {
			return nil
		}
		return s.orWorkload(cl, ref, err)
	}
	if ref.Kind != object.KindDeployment && ref.Kind != object.KindReplicaSet {
		return object.Errorf(object.CodeInvalid, ref, "has no log; pods, replica sets and deployments have")
	}
	workload, err := cl.Get(s.ctx, ref)
	if err != nil {
		return s.withNames(cl, ref, err)
	}
	if err := checkContainer(workload, c.Container); err != nil {
		return err
	}
	return s.logsOfMany(cl, ref, o)
}

// orWorkload adds to the error about a pod that is not there that a deployment of the
// name is: that is what people mean who leave the kind out.
func (s *session) orWorkload(cl *client.Client, pod object.Ref, err error) error {
	var e *object.Error
	if !object.IsCode(err, object.CodeNotFound) || !errors.As(err, &e) || e.Ref != pod || e.Hint != "" {
		return err
	}
	d := object.Ref{Kind: object.KindDeployment, Namespace: pod.Namespace, Name: pod.Name}
	if _, found := cl.Get(s.ctx, d); found != nil {
		return s.withNames(cl, pod, err)
	}
	e.Hint = fmt.Sprintf("There is a deployment of that name; all its pods at once: berth logs -n %s deployment/%s", d.Namespace, d.Name)
	return e
}

func copyLog(ctx context.Context, cl *client.Client, pod object.Ref, o client.LogOptions, line func([]byte)) error {
	r, err := cl.Logs(ctx, pod, o)
	if err != nil {
		return err
	}
	defer r.Close()
	for in := bufio.NewReader(r); ; {
		text, err := in.ReadBytes('\n')
		if len(text) > 0 {
			line(text)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// checkContainer refuses a container that no pod of the workload has.
func checkContainer(workload object.Object, name string) error {
	var t object.PodTemplate
	switch x := workload.(type) {
	case *object.Deployment:
		t = x.Spec.Pod
	case *object.ReplicaSet:
		t = x.Spec.Pod
	}
	var names []string
	for _, c := range slices.Concat(t.Containers, t.Init) {
		names = append(names, c.Name)
	}
	if name == "" || len(names) == 0 || slices.Contains(names, name) {
		return nil
	}
	e := object.Errorf(object.CodeNotFound, workload.Ref(), "has no container %q", name)
	if e.Hint = object.DidYouMean(name, names); e.Hint == "" {
		e.Hint = fmt.Sprintf("It has %q.", names)
	}
	return e
}

// hasStarted reports whether a container of the pod, or the pod itself if no
// container is named, can have written anything.
func hasStarted(p *object.Pod, container string) bool {
	for _, c := range p.Status.Containers {
		if c.Name == container {
			return !c.Started.IsZero()
		}
	}
	return !p.Status.Started.IsZero()
}

// logsOfMany joins the logs of a workload's pods, of those that come later, too,
// when following.
func (s *session) logsOfMany(cl *client.Client, ref object.Ref, o client.LogOptions) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(s.ctx)
	reading := map[object.Ref]uint64{}
	failed := 0 // logs that could not be read
	read := func(p *object.Pod, o client.LogOptions) {
		if p.Spec.Node == "" || !hasStarted(p, o.Container) || reading[p.Ref()] == p.Created {
			return
		}
		reading[p.Ref()] = p.Created
		g.Go(func() error {
			err := copyLog(ctx, cl, p.Ref(), o, func(line []byte) {
				mu.Lock()
				defer mu.Unlock()
				if !strings.HasSuffix(string(line), "\n") {
					line = append(line, '\n')
				}
				fmt.Fprintf(s.stdout, "%s | %s", p.Name, line)
			})
			if err != nil && ctx.Err() == nil && !(p.Spec.Stop && object.IsCode(err, object.CodeNotFound)) {
				mu.Lock()
				defer mu.Unlock()
				failed++
				fmt.Fprintf(s.stderr, "%s: %v\n", p.Name, err) // the others go on
			}
			return nil
		})
	}
	owners := map[object.Ref]bool{ref: true}
	watch := client.WatchOptions{Kinds: []object.Kind{object.KindReplicaSet, object.KindPod}, Namespace: ref.Namespace, Rows: true}
	var waiting []*object.Pod // pods whose set has not been seen yet
	synced := false
	err := cl.Watch(ctx, watch, func(e object.WatchEvent) error {
		switch x := e.Object.Object.(type) {
		case *object.ReplicaSet:
			if x.Owner == ref {
				owners[x.Ref()] = true
			}
		case *object.Pod:
			switch {
			case owners[x.Owner] && synced:
				fresh := o // all that a pod wrote that came meanwhile
				fresh.Tail, fresh.Since = -1, 0
				read(x, fresh)
			case owners[x.Owner]:
				read(x, o)
			default:
				waiting = append(waiting, x)
			}
		}
		if e.Op == object.WatchSynced {
			for _, p := range waiting {
				if owners[p.Owner] {
					read(p, o)
				}
			}
			waiting, synced = nil, true
			if len(reading) == 0 {
				fmt.Fprintf(s.stderr, "No pod of %s has started.\n", ref)
			}
			if !o.Follow {
				return errSettled
			}
		}
		return nil
	})
	if waitErr := g.Wait(); err == nil || errors.Is(err, errSettled) {
		if err = waitErr; err == nil && failed > 0 {
			err = fmt.Errorf("the logs of %d of %d pods could not be read", failed, len(reading))
		}
	}
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}
