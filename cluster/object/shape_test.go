package object

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

// What a shape says, a regular expression said before.
func TestShapesAreRegularExpressions(t *testing.T) {
	for _, x := range []struct {
		name  string
		shape shape
		form  string
	}{
		{"dnsLabel", dnsLabel, `^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`},
		{"labelKey", labelKey, `^[A-Za-z0-9]([-A-Za-z0-9_./]{0,251}[A-Za-z0-9])?$`},
		{"labelText", labelText, `^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`},
		{"dataKey", dataKey, `^[-A-Za-z0-9._]{1,253}$`},
	} {
		t.Run(x.name, func(t *testing.T) {
			form := regexp.MustCompile(x.form)
			rapid.Check(t, func(t *rapid.T) {
				text := rapid.OneOf(
					rapid.StringMatching(`[-A-Za-z0-9_./]{0,3}[a-z0-9]{0,260}[-A-Za-z0-9_./ ä]{0,3}`),
					rapid.StringMatching(`[a-z0-9]{61,65}`), rapid.StringMatching(`[a-z0-9]{251,255}`), rapid.String(),
				).Draw(t, "text")
				if got, want := x.shape.matches(text), form.MatchString(text); got != want {
					t.Fatalf("%q: %v, but the expression says %v", text, got, want)
				}
			})
		})
	}
}
