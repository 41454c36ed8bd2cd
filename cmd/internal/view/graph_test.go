package view

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// waved is a plan of which only the waves matter.
func waved() *object.Plan {
	ref := func(k object.Kind, name string) object.Ref {
		return object.Ref{Kind: k, Namespace: "default", Name: name}
	}
	api, web, svc := ref(object.KindDeployment, "api"), ref(object.KindDeployment, "web"), ref(object.KindService, "api")
	config, old := ref(object.KindConfigMap, "web"), ref(object.KindConfigMap, "old")
	change := func(wave int, address string, r object.Ref, after ...object.Ref) object.PlannedChange {
		o, _ := object.New(r.Kind)
		*o.Head() = object.Meta{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, After: after}
		return object.PlannedChange{Ref: r, Address: address, Wave: wave, After: object.Any{Object: o}}
	}
	gone := change(4, `config_map.x["a&b"]`, old)
	gone.Before, gone.After = gone.After, object.Any{}
	return &object.Plan{Stack: "shop", Changes: []object.PlannedChange{
		change(3, "deployment.web", web, svc, config, ref(object.KindNamespace, "default")), // what does not change is not drawn
		change(1, "deployment.api", api), change(2, "service.api", svc, api), change(3, "config_map.web", config), gone,
	}}
}

func TestGraph(t *testing.T) {
	for _, format := range GraphFormats {
		golden(t, "graph."+format, func(w io.Writer) error { return Graph(w, waved(), format) })
		golden(t, "graph-none."+format, func(w io.Writer) error { return Graph(w, &object.Plan{Stack: "shop"}, format) })
	}
	var b bytes.Buffer
	if err := Graph(&b, waved(), "svg"); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(&b); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well formed: %v", err)
		}
	}
}
