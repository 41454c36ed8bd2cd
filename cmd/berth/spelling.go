package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/berthdev/berth/cluster/object"
)

// elsewhere is what commands are called here that people know from other tools.
var elsewhere = map[string]string{
	"alloc":         "Pods are shown by: berth get pods, berth describe pod/NAME",
	"api-resources": "Kinds and their fields are in docs/language.md; for editors: berth schema",
	"cluster-info":  "berth master list and berth node list show the cluster.",
	"cordon":        "That is: berth node cordon NODE",
	"create":        "Write its block into the configuration, then: berth plan",
	"delete":        "Take its block out of the configuration, then: berth plan. All of a stack ends by: berth destroy",
	"drain":         "That is: berth node drain NODE; what it moves shows: berth plan drain NODE",
	"edit":          "Change the configuration, then: berth plan",
	"explain":       "Why a pod is where it is says: berth why POD; fields are in docs/language.md",
	"force-unlock":  "There are no locks: two plans of one object are told apart when they are applied.",
	"job":           "A job is a configuration: berth -C DIR plan, berth -C DIR apply",
	"patch":         "Change the configuration, then: berth plan",
	"ps":            "That is: berth get pods",
	"refresh":       "Every plan looks at what is there; what was changed past the stack shows: berth plan",
	"replace":       "Change the configuration, then: berth plan",
	"run":           "Write a deployment or a pod into a configuration, then: berth apply",
	"scale":         "berth plan scale NAME=N --out FILE shows it, berth apply FILE does it. For good: change replicas in the configuration.",
	"taint":         "New pods in place of the old ones: berth rollout restart NAME. Taints of nodes are in their block: node \"n1\" { taint … }",
	"top":           "Asks and capacity show: berth get nodes, berth describe node/NAME",
	"uncordon":      "That is: berth node uncordon NODE",
	"workspace":     "A stack is a configuration's: berth { stack = … }; a cluster is chosen by --cluster.",
}

// spelling finds out what a command line that could not be read may have been meant
// to say; empty if nothing comes to mind.
func spelling(app *kong.Application, args []string) string {
	node, long := app.Node, map[string]bool{}
	collectFlags(app.Node, long)
	flags := make([]string, 0, len(long))
	for name := range long {
		flags = append(flags, "--"+name)
	}
	slices.Sort(flags)
	word := false // an argument that is no command has been seen
	for _, a := range args {
		switch {
		case a == "--":
			return ""
		case len(a) > 3 && a[0] == '-' && a[1] != '-': // -auto-aprove, as Terraform writes flags
			name, _, _ := strings.Cut(a, "=")
			if s := object.DidYouMean("-"+name, flags); s != "" {
				return s
			}
		case strings.HasPrefix(a, "-"), word:
		default:
			i := slices.IndexFunc(node.Children, func(c *kong.Node) bool { return c.Name == a })
			if i >= 0 {
				node = node.Children[i]
				continue
			}
			word = true
			if node == app.Node && elsewhere[a] != "" {
				return elsewhere[a]
			}
			names := make([]string, 0, len(node.Children))
			for _, c := range node.Children {
				names = append(names, c.Name)
			}
			if s := object.DidYouMean(a, names); s != "" {
				return s
			}
		}
	}
	return ""
}
