package main

import "github.com/berthdev/berth/cluster/object"

// DevCmd groups the development cluster's commands.
type DevCmd struct {
	Dir  string `default:"/var/lib/berth-dev" env:"BERTH_DEV_DIR" type:"path" placeholder:"DIR" help:"Where the cluster keeps its data."`
	Name string `default:"berth" placeholder:"NAME" help:"Name of its bridge and beginning of its namespaces' names."`

	Up     DevUpCmd     `cmd:"" help:"Make the cluster, or go on with it."`
	Status DevStatusCmd `cmd:"" default:"1" help:"Show its hosts."`
	Down   DevDownCmd   `cmd:"" help:"End it and leave nothing behind."`
	Stop   DevStopCmd   `cmd:"" help:"Stop a host; --kill pulls its plug."`
	Start  DevStartCmd  `cmd:"" help:"Start a host again."`
	Open   DevOpenCmd   `cmd:"" help:"Say where this machine reaches a service or ingress, and show it in a browser if there is one."`
}

// DevUpCmd is `berth dev up`.
type DevUpCmd struct {
	Masters int      `default:"3" help:"Masters: 1, 3 or 5."`
	Nodes   int      `default:"3" help:"Nodes."`
	Zones   []string `placeholder:"ZONE,..." help:"Zones that the nodes are put in, in turn; default: those of --split, else a, b and c."`

	Subnet   string   `default:"10.77.0.0/24" placeholder:"RANGE" help:"Addresses of the hosts."`
	Pods     string   `default:"10.78.0.0/16" placeholder:"RANGE" help:"Addresses of the pods; the masters give each node a part of it."`
	NodeBits int      `default:"24" placeholder:"BITS" help:"Prefix of that part."`
	Services string   `placeholder:"RANGE" help:"Addresses of the services; default: 10.79.0.0/16, or the first from 10.200.0.0/16 on that is free."`
	Split    []string `placeholder:"ZONE,..." help:"Zones whose nodes have a network segment of their own; this machine routes between them."`

	Latency      object.Duration `help:"How long packets take into each of those segments, where the kernel can delay them."`
	NodeTimeout  object.Duration `default:"30s" help:"A node that is silent for this long is lost."`
	LeaveTimeout object.Duration `default:"1s" help:"As of berth node run."`
	ResolvConf   string          `default:"/etc/resolv.conf" type:"path" placeholder:"FILE" help:"Has the name servers that the nodes ask for names outside the cluster."`
}

// DevOpenCmd is `berth dev open`.
type DevOpenCmd struct {
	NamespaceFlags
	Object string `arg:"" complete:"service" help:"A service, or ingress/NAME."`
	Print  bool   `help:"Only say where."`
}

// DevStatusCmd is `berth dev status`.
type DevStatusCmd struct{ JSONFlag }

// DevDownCmd is `berth dev down`.
type DevDownCmd struct{}

// DevStopCmd is `berth dev stop`.
type DevStopCmd struct {
	Host string `arg:"" help:"The host: m1, n2, …"`
	Kill bool   `help:"Pull the plug: every process of the host is gone at once."`
}

// DevStartCmd is `berth dev start`.
type DevStartCmd struct {
	Host string `arg:"" help:"The host: m1, n2, …"`
}
