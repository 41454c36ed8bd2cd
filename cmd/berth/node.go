package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

// NodeCmd groups what concerns nodes.
type NodeCmd struct {
	Run      NodeRunCmd      `cmd:"" help:"Be a node."`
	List     NodeListCmd     `cmd:"" default:"1" help:"List the nodes."`
	Cordon   NodeCordonCmd   `cmd:"" help:"Let no new pods come."`
	Uncordon NodeUncordonCmd `cmd:"" help:"Let pods come again."`
	Drain    NodeDrainCmd    `cmd:"" help:"Move all pods elsewhere, replacements first."`
	Remove   NodeRemoveCmd   `cmd:"" help:"Take a node out of the cluster for good."`
}

// NodeRunCmd is the node process.
type NodeRunCmd struct {
	Name             string            `placeholder:"NAME" help:"Name of the node; default: the host's."`
	Data             string            `default:"/var/lib/berth/node" placeholder:"DIR" help:"Where images, containers and the checkpoint of its pods are kept."`
	State            string            `placeholder:"DIR" help:"Sockets and mounts, kept in memory; default: DIR/run. Shorter than 64 bytes."`
	Listen           string            `default:"0.0.0.0:7410" placeholder:"HOST:PORT" help:"Address of the agent's API, for the masters."`
	Advertise        string            `placeholder:"HOST" help:"Host name or address by which the masters reach it."`
	Join             []string          `placeholder:"HOST:PORT" help:"The masters."`
	JoinToken        string            `env:"BERTH_JOIN_TOKEN" placeholder:"TOKEN" help:"Token of role node (berth token create --role node), unless this directory has joined already."`
	Label            map[string]string `placeholder:"KEY=VALUE" help:"Labels that it begins with, such as zone=a."`
	CPU              object.CPU        `name:"cpu" placeholder:"CORES" help:"Processors for pods; default: all."`
	Memory           object.Bytes      `placeholder:"SIZE" help:"Memory for pods; default: all but a reserve."`
	ContainerdSocket string            `placeholder:"SOCKET" help:"A containerd to use; default: one of its own."`
	Runtime          string            `default:"runc" placeholder:"PROGRAM" help:"OCI runtime."`
	ResolvConf       string            `default:"/etc/resolv.conf" placeholder:"FILE" help:"Has the name servers for names outside the cluster, unless the network names some."`
	Ingress          bool              `help:"Serve ingresses, too. Their secrets are given to nodes with the label berth/ingress=true only."`
	IngressHTTP      []string          `name:"ingress-http" default:":80" placeholder:"HOST:PORT" help:"Where ingresses are served by plain HTTP."`
	IngressHTTPS     []string          `name:"ingress-https" default:":443" placeholder:"HOST:PORT" help:"Where ingresses are served by HTTPS."`
	Insecure         []string          `placeholder:"HOST:PORT" help:"Registries to speak plain HTTP with; loopback always is."`
	LeaveTimeout     object.Duration   `default:"1s" help:"How long a pod is kept from its stop signal, at most, until every node has taken it out of its services."`
	KeepPods         bool              `help:"Leave the pods running when it is asked to end, for an upgrade; else they are stopped and nothing is left."`
	LogLevel         slog.Level        `default:"info" help:"debug, info, warn or error."`
}

// NodeListCmd is `berth node list`.
type NodeListCmd struct{ JSONFlag }

// Run lists the nodes.
func (c *NodeListCmd) Run(s *session) error {
	_, err := s.list(object.KindNode, "", nil, c.JSON, false)
	return err
}

// NodeArg names a node.
type NodeArg struct {
	Node string `arg:"" complete:"node" help:"The node."`
}

func (a NodeArg) ref() object.Ref { return object.Ref{Kind: object.KindNode, Name: a.Node} }

// NodeCordonCmd is `berth node cordon`.
type NodeCordonCmd struct{ NodeArg }

// Run lets no new pods come.
func (c *NodeCordonCmd) Run(s *session) error {
	return s.changeNode(c.NodeArg, "is cordoned", func(n *object.Node) { n.Spec.Unschedulable = true })
}

// NodeUncordonCmd is `berth node uncordon`.
type NodeUncordonCmd struct{ NodeArg }

// Run lets pods come again, and ends a drain.
func (c *NodeUncordonCmd) Run(s *session) error {
	return s.changeNode(c.NodeArg, "takes pods again", func(n *object.Node) { n.Spec.Unschedulable, n.Spec.Drain = false, false })
}

func (s *session) changeNode(a NodeArg, done string, change func(*object.Node)) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	if _, err := client.Update(s.ctx, cl, a.ref(), func(n *object.Node) error { change(n); return nil }); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s %s\n", a.Node, done)
	return nil
}

// NodeDrainCmd is `berth node drain`.
type NodeDrainCmd struct {
	NodeArg
	Timeout object.Duration `default:"5m" help:"How long to wait at most."`
	NoWait  bool            `help:"Return at once."`
}

// Run cordons the node, has its pods replaced elsewhere, and waits until none is left.
func (c *NodeDrainCmd) Run(s *session) error {
	if err := s.changeNode(c.NodeArg, "is being drained", (*object.Node).Drain); err != nil || c.NoWait {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout.D())
	defer cancel()
	return s.awaitDrained(ctx, cl, c.Node, false)
}

// awaitDrained waits until no pod is left on a node that could go elsewhere.
func (s *session) awaitDrained(ctx context.Context, cl *client.Client, node string, quiet bool) error {
	out := s.stdout
	if quiet {
		out = io.Discard
	}
	began := time.Now()
	pods := map[object.Ref]*object.Pod{}
	synced, shown := false, -1
	var stay []string
	err := cl.Watch(ctx, client.WatchOptions{Kinds: []object.Kind{object.KindPod}, Node: node}, func(e object.WatchEvent) error {
		switch e.Op {
		case object.WatchReset:
			clear(pods)
			synced = false
		case object.WatchSynced:
			synced = true
		case object.WatchDelete:
			delete(pods, e.Ref)
		default:
			if p, ok := e.Object.Object.(*object.Pod); ok {
				pods[e.Ref] = p
			}
		}
		left := 0
		stay = nil
		for _, p := range pods {
			// A pod without an owner is nobody's to replace: it stays until its
			// configuration moves it.
			switch {
			case p.Terminal():
			case p.Owner.IsZero():
				stay = append(stay, p.Namespace+"/"+p.Name)
			default:
				left++
			}
		}
		if !synced {
			return nil
		}
		if left != shown {
			shown = left
			fmt.Fprintf(out, "%s: %s left\n", node, plural(left, "pod"))
		}
		if left == 0 {
			return errSettled
		}
		return nil
	})
	switch {
	case errors.Is(err, errSettled):
		if len(stay) > 0 {
			slices.Sort(stay)
			fmt.Fprintf(out, "%s: left alone, since no set would start them elsewhere: %s\n", node, strings.Join(stay, ", "))
		}
		fmt.Fprintf(out, "%s is drained. It takes pods again after: berth node uncordon %s\n", node, node)
		return nil
	case s.ctx.Err() != nil:
		fmt.Fprintf(s.stderr, "\nInterrupted. The drain goes on on the masters; end it with: berth node uncordon %s\n", node)
		return exitCode(exitError)
	case ctx.Err() != nil:
		return &object.Error{Code: object.CodeTimeout, Ref: object.Ref{Kind: object.KindNode, Name: node}, Message: fmt.Sprintf("%s left after %s", plural(shown, "pod"), object.Duration(time.Since(began).Round(time.Second))),
			Hint: "Their replacements may fit nowhere: berth get pods -A, and berth why POD."}
	}
	return err
}

// NodeRemoveCmd is `berth node remove`.
type NodeRemoveCmd struct {
	NodeArg
	Force bool `help:"Although it is ready or has pods."`
}

// Run deletes the node's object; its certificate then opens nothing any more.
func (c *NodeRemoveCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	n, err := client.Get[*object.Node](s.ctx, cl, c.ref())
	if err != nil {
		return err
	}
	if n.Status.Condition == object.NodeReady && !c.Force {
		return &object.Error{Code: object.CodeInvalid, Ref: c.ref(), Message: "is ready", Hint: "Drain and stop it first, or say --force."}
	}
	if _, err := cl.Delete(s.ctx, c.ref(), n.Version); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is no longer a node.\n", c.Node)
	return nil
}
