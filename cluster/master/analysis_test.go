package master

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// What a source answers may bring out a defect of a library. That costs the
// measurement: the next leader would ask the same.
func TestADefectInAMeasurementTellsNothing(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	l := &leader{
		m: &Master{config: Config{Now: now}, log: slog.New(slog.DiscardHandler)}, results: mailbox{wake: make(chan struct{}, 1)},
		checks: &checks{asked: map[asking]bool{}, told: map[asking]object.Measurement{}}, // without sources
	}
	a := asking{set: "web-1"}
	check := &object.Check{HTTP: &object.HTTPSource{URL: "http://x.example", Timeout: object.Duration(time.Second)}}
	l.ask(context.Background(), a, check, object.Subject{}, nil)
	l.checks.pending.Wait()
	m, ok := l.checks.take(a)
	if !ok || m.Result != object.ResultInconclusive || !strings.Contains(m.Message, "the master failed") || !m.At.Equal(now()) {
		t.Errorf("%+v %v", m, ok)
	}
}
