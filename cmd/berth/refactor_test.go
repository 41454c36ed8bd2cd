package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// containers writes the running pods of the default namespace, each with its node,
// its incarnation and its containers: who restarts one pod gets another file.
func (w *scriptWorld) containers(ts *testscript.TestScript, neg bool, args []string) {
	var b strings.Builder
	for p := range state.All[*object.Pod](w.c.Snapshot(), object.KindPod, state.InNamespace(object.DefaultNamespace)) {
		if p.Spec.Stop || p.Terminal() {
			continue
		}
		fmt.Fprintf(&b, "%s created %d on %s:", p.Name, p.Created, p.Spec.Node)
		for _, c := range p.Status.Containers {
			fmt.Fprintf(&b, " %s %s restarts %d", c.Name, c.ID, c.Restarts)
		}
		b.WriteByte('\n')
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o600))
}
