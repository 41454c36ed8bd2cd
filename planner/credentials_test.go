package planner

import (
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// asking is a deployment whose check asks with a key of the secret prom.
func asking(name, key string) *object.Deployment {
	return deployment(name, "i:1", 1, func(d *object.Deployment) {
		check := object.Check{Name: "slo", SuccessCondition: "< 1", Prometheus: &object.PrometheusSource{}}
		object.SetDefaults(&check)
		object.SetDefaults(check.Prometheus)
		check.Prometheus.Address, check.Prometheus.Query = "http://prometheus", "up"
		check.Prometheus.Headers = map[string]object.Text{"Authorization": object.Text("Bearer " + object.SecretKey{Name: "prom", Key: key}.String())}
		d.Spec.Update.Strategy = "canary"
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 50, Checks: []object.Check{check}}}
	})
}

// The secret comes before the deployment and goes after it; another value of it rolls
// nothing, and the plan says who uses it.
func TestCredentialsInPlans(t *testing.T) {
	empty := state.Load(1, nil).Snapshot()
	p, diags := Diff(empty, request(asking("web", "password"), secret("prom", "a")))
	if got, want := brief(p), []string{"1 create secret.prom", "2 create deployment.web"}; len(diags) > 0 || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, diags)
	}
	s := state.New()
	add(t, s, "shop", asking("web", "password"), secret("prom", "a"))
	p, _ = Diff(s.Snapshot(), request(asking("web", "password"), secret("prom", "b")))
	if got, want := brief(p), []string{`1 update secret.prom; data["password"]: no running deployment reads it; checks of deployment.web ask with it from their next measurement`}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	p, _ = Diff(s.Snapshot(), request())
	if got := brief(p); len(got) != 2 || !strings.HasPrefix(got[0], "1 delete deployment.web") && !strings.HasPrefix(got[1], "1 delete deployment.web") {
		t.Errorf("%v", got)
	}
	// A rollback is not refused for a check that the way back does not have.
	p, diags = Diff(empty, request(asking("web", "password")))
	if len(diags) > 0 {
		t.Errorf("no pod waits for it: %v", diags)
	}
	p.Target = 3
	if _, found := Check(empty, &p); len(found) != 1 || found[0].Severity != object.SeverityWarning || found[0].Path != `update.step["try"].check["slo"].prometheus.headers["Authorization"]` {
		t.Errorf("%+v", found)
	}
}
