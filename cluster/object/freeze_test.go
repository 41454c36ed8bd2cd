package object

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFreezeUntil(t *testing.T) {
	weekend := FreezeSpec{From: "fri 17:00", To: "mon 07:00", TimeZone: "Europe/Berlin"}
	night := FreezeSpec{From: "22:00", To: "06:30", TimeZone: "America/New_York"}
	lunch := FreezeSpec{From: "12:00", To: "13:00", TimeZone: "UTC"}
	sunday := FreezeSpec{From: "Sun 00:00", To: "Mon 00:00", TimeZone: "UTC"}
	allButAnHour := FreezeSpec{From: "wed 10:00", To: "wed 09:00", TimeZone: "UTC"}
	holidays := FreezeSpec{From: "2026-12-23 18:00", To: "2027-01-04 07:00", TimeZone: "Asia/Tokyo"}
	for _, x := range []struct {
		what  string
		spec  FreezeSpec
		now   string // RFC 3339
		until string // empty: outside
	}{
		{"before the weekend", weekend, "2026-11-27T16:59:59+01:00", ""},
		{"its first moment", weekend, "2026-11-27T17:00:00+01:00", "2026-11-30T07:00:00+01:00"},
		{"in it, on another clock", weekend, "2026-11-29T02:00:00-08:00", "2026-11-30T07:00:00+01:00"},
		{"its last moment", weekend, "2026-11-30T06:59:59+01:00", "2026-11-30T07:00:00+01:00"},
		{"after it", weekend, "2026-11-30T07:00:00+01:00", ""},
		{"in the week", weekend, "2026-12-02T12:00:00+01:00", ""},
		{"over the end of summer time", weekend, "2026-10-24T12:00:00+02:00", "2026-10-26T07:00:00+01:00"},
		{"over its beginning", weekend, "2026-03-28T12:00:00+01:00", "2026-03-30T07:00:00+02:00"},
		{"an hour too early in UTC", weekend, "2026-07-03T14:59:00Z", ""},
		{"in summer", weekend, "2026-07-03T15:00:00Z", "2026-07-06T07:00:00+02:00"},
		{"before midnight", night, "2026-11-26T23:00:00-05:00", "2026-11-27T06:30:00-05:00"},
		{"after midnight", night, "2026-11-27T06:29:00-05:00", "2026-11-27T06:30:00-05:00"},
		{"by day", night, "2026-11-27T06:30:00-05:00", ""},
		{"lunch", lunch, "2026-11-27T12:30:00Z", "2026-11-27T13:00:00Z"},
		{"after lunch", lunch, "2026-11-27T13:00:00Z", ""},
		{"sunday", sunday, "2026-11-29T00:00:00Z", "2026-11-30T00:00:00Z"},
		{"saturday", sunday, "2026-11-28T23:59:59Z", ""},
		{"a week but an hour", allButAnHour, "2026-11-25T08:59:00Z", "2026-11-25T09:00:00Z"},
		{"that hour", allButAnHour, "2026-11-25T09:30:00Z", ""},
		{"after that hour", allButAnHour, "2026-11-25T10:00:00Z", "2026-12-02T09:00:00Z"},
		{"before the holidays", holidays, "2026-12-23T08:59:00Z", ""},
		{"in the holidays", holidays, "2026-12-23T09:00:00Z", "2027-01-04T07:00:00+09:00"},
		{"after them", holidays, "2027-01-03T22:00:00Z", ""},
	} {
		now, err := time.Parse(time.RFC3339, x.now)
		if err != nil {
			t.Fatal(err)
		}
		until, ok := x.spec.Until(now)
		got := ""
		if ok {
			got = until.Format(time.RFC3339)
		}
		if got != x.until {
			t.Errorf("%s: until %q, want %q", x.what, got, x.until)
		}
	}
}

// A window that now falls into ends later, holds up to its end, and is over then.
func TestFreezeUntilIsItsEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := func(what string) string {
			return time.Date(2000, 1, 1, rapid.IntRange(0, 23).Draw(t, what+" hour"), rapid.IntRange(0, 59).Draw(t, what+" minute"), 0, 0, time.UTC).Format("15:04")
		}
		s := FreezeSpec{From: clock("from"), To: clock("to"), TimeZone: rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"}).Draw(t, "zone")}
		if rapid.Bool().Draw(t, "weekly") {
			s.From = rapid.SampledFrom(weekdays).Draw(t, "from day") + " " + s.From
			s.To = rapid.SampledFrom(weekdays).Draw(t, "to day") + " " + s.To
		}
		if s.From == s.To {
			t.Skip("refused")
		}
		now := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(t, "now"), 0)
		until, ok := s.Until(now)
		if !ok {
			return
		}
		if !until.After(now) || until.Sub(now) > 7*24*time.Hour+2*time.Hour {
			t.Fatalf("%+v at %s ends at %s", s, now.UTC(), until)
		}
		if _, still := s.Until(until.Add(-time.Second)); !still {
			t.Fatalf("%+v at %s ends before %s", s, now.UTC(), until)
		}
		if _, still := s.Until(until); still {
			t.Fatalf("%+v at %s goes on after %s", s, now.UTC(), until)
		}
	})
}

func TestFreezeCheck(t *testing.T) {
	for _, x := range []struct {
		spec  FreezeSpec
		wants string // empty: good
	}{
		{FreezeSpec{From: "fri 17:00", To: "mon 07:00", TimeZone: "Europe/Berlin"}, ""},
		{FreezeSpec{From: "22:00", To: "06:00", TimeZone: "UTC"}, ""},
		{FreezeSpec{From: "2026-12-23 18:00", To: "2027-01-04 07:00", TimeZone: "UTC"}, ""},
		{FreezeSpec{From: "friday 17:00", To: "mon 07:00", TimeZone: "UTC"}, `from: Wrong time: "friday 17:00"`},
		{FreezeSpec{From: "fri 17:00", To: "mon 7:00", TimeZone: "UTC"}, `to: Wrong time: "mon 7:00"`},
		{FreezeSpec{From: "fri 17:00", To: "mon 24:00", TimeZone: "UTC"}, "to: Wrong time"},
		{FreezeSpec{From: "2026-13-23 18:00", To: "2027-01-04 07:00", TimeZone: "UTC"}, "from: Wrong time"},
		{FreezeSpec{From: "fri 17:00", To: "07:00", TimeZone: "UTC"}, "to: Two forms of time"},
		{FreezeSpec{From: "fri 17:00", To: "fri 17:00", TimeZone: "UTC"}, "to: Endless window"},
		{FreezeSpec{From: "2027-01-04 07:00", To: "2026-12-23 18:00", TimeZone: "UTC"}, "to: Empty window"},
		{FreezeSpec{From: "22:00", To: "06:00", TimeZone: "Europe/Berln"}, `time_zone: Unknown time zone: There is no time zone "Europe/Berln"`},
		{FreezeSpec{From: "22:00", To: "06:00", TimeZone: "Local"}, "time_zone: Unknown time zone"},
		{FreezeSpec{From: "22:00", To: "06:00", TimeZone: "UTC", Namespaces: []string{}}, "namespaces: Empty list"},
		{FreezeSpec{To: "06:00", TimeZone: "UTC"}, `"from" is needed`},
	} {
		var lines []string
		for _, d := range Validate(&Freeze{Meta: Meta{Kind: KindFreeze, Name: "f"}, Spec: x.spec}) {
			lines = append(lines, d.Path+": "+d.Summary+": "+d.Detail)
		}
		if all := strings.Join(lines, "\n"); x.wants == "" && all != "" || !strings.Contains(all, x.wants) {
			t.Errorf("%+v: %q, want %q", x.spec, all, x.wants)
		}
	}
}

func TestFreezing(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	freeze := func(name string, namespaces ...string) *Freeze {
		return &Freeze{Meta: Meta{Kind: KindFreeze, Name: name}, Spec: FreezeSpec{Namespaces: namespaces, From: "fri 17:00", To: "mon 07:00", TimeZone: "UTC", Reason: "Nobody is there."}}
	}
	shop := Ref{Kind: KindDeployment, Namespace: "shop", Name: "web"}
	for _, x := range []struct {
		freeze  *Freeze
		touched Ref
		want    bool
	}{
		{freeze("all"), shop, true},
		{freeze("all"), Ref{Kind: KindNode, Name: "n1"}, true},
		{freeze("some", "api", "shop"), shop, true},
		{freeze("some", "shop"), Ref{Kind: KindNamespace, Name: "shop"}, true},
		{freeze("some", "api"), shop, false},
		{freeze("some", "shop"), Ref{Kind: KindNode, Name: "shop"}, false},
		{freeze("some", "shop"), Ref{Kind: KindFreeze, Name: "some"}, true},
		{freeze("some", "shop"), Ref{Kind: KindFreeze, Name: "other"}, false},
	} {
		found := Freezing([]*Freeze{x.freeze}, []Ref{{Kind: KindPod, Namespace: "other", Name: "p"}, x.touched}, now)
		if x.freeze.Spec.Namespaces == nil {
			found = Freezing([]*Freeze{x.freeze}, []Ref{x.touched}, now)
		}
		if (len(found) == 1) != x.want || x.want && found[0].Address != x.touched.Address() {
			t.Errorf("%v for %s: %+v", x.freeze.Spec.Namespaces, x.touched, found)
		}
		if err := Refuses(found, ""); (err != nil) != x.want || x.want && (!IsCode(err, CodeFrozen) || !strings.Contains(err.Error(), "holds until Mon 2026-11-30 07:00 UTC (Nobody is there)")) {
			t.Errorf("refuses: %v", err)
		}
		if err := Refuses(found, "an outage"); err != nil {
			t.Error(err)
		}
	}
}

func TestSteers(t *testing.T) {
	d := &Deployment{Meta: Meta{Kind: KindDeployment, Namespace: "shop", Name: "web"}, Spec: DeploymentSpec{Replicas: 2}}
	changed := func(f func(*Deployment)) *Deployment {
		n := d.Clone().(*Deployment)
		f(n)
		return n
	}
	for _, x := range []struct {
		what  string
		after Object
		want  bool
	}{
		{"pause", changed(func(d *Deployment) { d.Spec.Paused = true }), true},
		{"abort", changed(func(d *Deployment) { d.Spec.Aborted, d.Spec.Retries = "web-1", 2 }), true},
		{"scale", changed(func(d *Deployment) { d.Spec.Replicas, d.Spec.Paused = 3, true }), false},
		{"restart", changed(func(d *Deployment) { d.Restart(time.Unix(1, 0)) }), false},
		{"labels", changed(func(d *Deployment) { d.Labels = map[string]string{"a": "b"} }), false},
		{"another kind", &Pod{}, false},
	} {
		if got := Steers(d, x.after); got != x.want {
			t.Errorf("%s: %t", x.what, got)
		}
	}
}
