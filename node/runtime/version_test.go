package runtime

import "testing"

func TestParseRelease(t *testing.T) {
	for version, want := range map[string]string{
		"1.6.20~ds1": "1.6", "v2.1.4": "2.1", "1.7.35+unknown": "1.7", "2.0.0-rc.1": "2.0", "v10.12.1": "10.12", "1.7": "1.7", " v1.5.18\n": "1.5",
	} {
		if got, ok := parseRelease(version); !ok || got.String() != want {
			t.Errorf("%q is of %s (%v), want %s", version, got, ok, want)
		}
	}
	for _, version := range []string{"", "unknown", "v2", "2.", "main.1", "a.b"} {
		if got, ok := parseRelease(version); ok {
			t.Errorf("%q is of %s, want nothing", version, got)
		}
	}
	for _, test := range []struct {
		a, b   release
		before bool
	}{
		{release{1, 5}, release{1, 6}, true}, {release{1, 6}, release{1, 6}, false}, {release{2, 0}, release{1, 6}, false},
		{release{0, 9}, release{1, 6}, true}, {release{1, 10}, release{1, 6}, false},
	} {
		if test.a.before(test.b) != test.before {
			t.Errorf("%s before %s: %v", test.a, test.b, !test.before)
		}
	}
}
