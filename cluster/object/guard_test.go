package object_test

import (
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func TestGuards(t *testing.T) {
	share := func(s string) *object.Amount {
		a := new(object.Amount)
		if err := a.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		return a
	}
	number := func(n uint) *uint { return &n }
	thing := func(name string) object.Any {
		return object.Any{Object: &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: name}}}
	}
	p := &object.Plan{Changes: []object.PlannedChange{
		{Address: "config_map.new", Actions: []string{object.ActionCreate}, After: thing("new")},
		{Address: "config_map.gone", Actions: []string{object.ActionDelete}, Before: thing("gone")},
		{Address: "config_map.anew", Actions: []string{object.ActionDelete, object.ActionCreate}, Before: thing("anew"), After: thing("anew")},
	}}
	web := object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"}
	f := &object.Forecast{Stop: 3, Lowest: []object.Availability{{Workload: web, Ready: 3, Want: 5}}}
	for _, x := range []struct {
		name   string
		guards object.Guards
		want   string // of the message; empty: allowed
	}{
		{"none", object.Guards{}, ""},
		{"enough may go", object.Guards{MaxDestroy: share("2")}, ""},
		{"a replacement is an end", object.Guards{MaxDestroy: share("1")}, "destroy 2 objects, config_map.gone first; --max-destroy allows 1."},
		{"a share", object.Guards{MaxDestroy: share("20%")}, ""},
		{"a share is rounded down", object.Guards{MaxDestroy: share("19%")}, "allows 19% of the 10 that the stack declares, which are 1"},
		{"ready enough", object.Guards{MinReady: share("3")}, ""},
		{"too few ready", object.Guards{MinReady: share("4")}, "deployment.web would fall to 3 of 5 ready"},
		{"a share of pods", object.Guards{MinReady: share("60%")}, ""},
		{"a share of pods is rounded up", object.Guards{MinReady: share("61%")}, "asks for 61%"},
		{"few move", object.Guards{MaxMoved: number(3)}, ""},
		{"none may move", object.Guards{MaxMoved: number(0)}, "stop 3 pods that run now; --max-moved allows 0"},
	} {
		t.Run(x.name, func(t *testing.T) {
			found := x.guards.Check(p, f, 10)
			err := object.Broken(found)
			if x.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !object.IsCode(err, object.CodeGuard) || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
