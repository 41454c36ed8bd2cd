package planner

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// TestPlanFilesAreSmall: a hundred objects, new and then rolling all at once, with
// their placements and timelines, are a file of at most 64 KiB without a byte of a
// secret; so it fits wherever CI keeps things.
func TestPlanFilesAreSmall(t *testing.T) {
	const most = 64 << 10
	stack := func(version int) Request {
		var objects []object.Object
		for i := range 40 {
			name := fmt.Sprintf("web-%03d", i)
			d := deployment(name, fmt.Sprintf("registry.example/shop/%s:%d.0", name, version), 3)
			if i < 19 {
				reading(name)(d)
				objects = append(objects, configMap(name, fmt.Sprintf("setting %d of %d", i, version)))
			}
			objects = append(objects, d, service(name))
		}
		objects = append(objects, secret("db", fmt.Sprintf("%s-%d", plaintext, version)))
		r := request(objects...)
		r.OnFailure = "pause"
		return r
	}
	c := newCluster(t, 20)
	for _, version := range []int{1, 2} {
		r := stack(version)
		if len(r.Objects) != 100 {
			t.Fatalf("%d objects", len(r.Objects))
		}
		p := c.plan(r)
		p.Time, p.Seal = start, "seal"
		var file bytes.Buffer
		if err := WritePlan(&file, &p); err != nil {
			t.Fatal(err)
		}
		t.Logf("version %d: %d changes, %d steps: %d bytes", version, len(p.Changes), len(p.Forecast.Steps), file.Len())
		if file.Len() > most {
			t.Errorf("version %d: %d bytes", version, file.Len())
		}
		q, err := ReadPlan("p", file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		b, err := q.SealingBytes(object.InOrder)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(plaintext)) || len(p.Forecast.Placements) == 0 || len(q.Forecast.Steps) != len(p.Forecast.Steps) {
			t.Errorf("a secret is in it, or something is missing")
		}
		if version == 1 {
			c.apply(p, time.Second)
		}
	}
}
