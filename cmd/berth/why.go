package main

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/scheduler"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/cmd/internal/view"
)

// WhyCmd is `berth why`.
type WhyCmd struct {
	NamespaceFlags
	JSONFlag
	Pod string `arg:"" complete:"pod" help:"The pod; or a deployment, deployment/web: why its rollout is where it is."`
}

// Run prints what every node has for or against the pod, or what a rollout waits for.
func (c *WhyCmd) Run(s *session) error {
	ref, err := s.reference(c.Pod, c.NamespaceFlags, object.KindPod)
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	if ref.Kind == object.KindDeployment {
		return s.whyRollout(cl, ref, c.JSON)
	}
	pod, err := client.Get[*object.Pod](s.ctx, cl, ref)
	if err != nil {
		return err
	}
	why, err := s.explain(cl, ref)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(why)
	}
	if pod.Status.Message != "" {
		fmt.Fprintf(s.stdout, "%s is %s: %s\n\n", ref, view.PodStatus(pod), pod.Status.Message)
	}
	return view.Explanation(s.stdout, &why, s.style(s.stdout))
}

// whyRollout prints what a rollout waits for, and what its checks have told.
func (s *session) whyRollout(cl *client.Client, ref object.Ref, asJSON bool) error {
	d, err := client.Get[*object.Deployment](s.ctx, cl, ref)
	if err != nil {
		return err
	}
	if asJSON {
		return s.json(d.Status)
	}
	return view.RolloutWhy(s.stdout, d, time.Now(), s.style(s.stdout))
}

// explain asks the scheduler itself, here, about the nodes and pods as the
// masters hold them.
func (s *session) explain(cl *client.Client, ref object.Ref) (object.Explanation, error) {
	var objects []object.Object
	var index uint64
	for _, k := range []object.Kind{object.KindNode, object.KindTemplate, object.KindStack, object.KindRevision, object.KindPod} {
		page, err := cl.List(s.ctx, k, client.ListOptions{Rows: true})
		if err != nil {
			return object.Explanation{}, err
		}
		index = page.Index
		for _, o := range page.Items {
			objects = append(objects, o.Object)
		}
	}
	return scheduler.New(scheduler.SpreadPolicy()).Explain(state.Load(index, objects).Snapshot(), ref)
}

// ExplainFlag asks for one pod of a plan.
type ExplainFlag struct {
	Explain string `placeholder:"POD" help:"Say of this pod of the forecast how the best three nodes score for it, and what is wrong with the others. NAMESPACE/POD where several have its name."`
}

// asked is what the masters are to explain, or nil.
func (f ExplainFlag) asked() *object.Explanation {
	if f.Explain == "" {
		return nil
	}
	return &object.Explanation{Asked: f.Explain}
}

// showExplanation prints what was asked for below the plan; the plan's JSON has it
// already, and the formats for reviews are of the plan alone.
func (s *session) showExplanation(format string, p *object.Plan) error {
	if p.Explanation == nil || format != "text" {
		return nil
	}
	fmt.Fprintln(s.stdout)
	return view.Explanation(s.stdout, p.Explanation, s.style(s.stdout))
}
