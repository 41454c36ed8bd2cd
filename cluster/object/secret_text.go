package object

import (
	"regexp"
	"slices"
	"strings"
)

// Text is a string that may refer to secrets, each as ${secret.NAME.data.KEY};
// the node that runs the container puts the values in, so that no template,
// plan or log ever holds one.
type Text string

// SecretKey is one key of one secret, in the namespace of who refers to it.
type SecretKey struct{ Name, Key string }

// String is the reference as Text spells it.
func (k SecretKey) String() string { return "${secret." + k.Name + ".data." + k.Key + "}" }

var secretRef = regexp.MustCompile(`\$\{secret\.([A-Za-z0-9_-]+)\.data\.([A-Za-z0-9._-]+)\}`)

// Secrets lists the secrets referred to, in order of appearance, each once.
func (t Text) Secrets() []SecretKey {
	if !strings.Contains(string(t), "${secret.") {
		return nil
	}
	var out []SecretKey
	for _, m := range secretRef.FindAllStringSubmatch(string(t), -1) {
		if k := (SecretKey{m[1], m[2]}); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// Expand puts values in; value answers false for what does not exist, and
// Expand then returns the reference that could not be resolved and false.
func (t Text) Expand(value func(SecretKey) (string, bool)) (string, SecretKey, bool) {
	var missing SecretKey
	ok := true
	s := secretRef.ReplaceAllStringFunc(string(t), func(m string) string {
		sub := secretRef.FindStringSubmatch(m)
		k := SecretKey{sub[1], sub[2]}
		v, found := value(k)
		if !found && ok {
			missing, ok = k, false
		}
		return v
	})
	return s, missing, ok
}

// Sensitive is a value that is never shown. Its plain text lives only in the
// memory of the client that read it and of the master that seals it: no
// encoding of any kind writes it. What is stored and compared is Sealed (the
// ciphertext, see cluster/seal) and Digest (keyed by the cluster, so that a
// guess cannot be checked offline).
type Sensitive struct {
	Sealed []byte `json:"sealed,omitempty"`
	Digest string `json:"digest,omitempty"`

	plain string
	has   bool
}

// NewSensitive wraps a plain value.
func NewSensitive(plain string) Sensitive { return Sensitive{plain: plain, has: true} }

// Reveal is the plain value, if this copy has it.
func (s Sensitive) Reveal() (string, bool) { return s.plain, s.has }

// WithDigest is the value with its keyed digest.
func (s Sensitive) WithDigest(d string) Sensitive { s.Digest = d; return s }

// String hides the value, whatever prints it.
func (s Sensitive) String() string { return "(sensitive value)" }

// GoString hides the value from %#v.
func (s Sensitive) GoString() string { return "(sensitive value)" }

// Same compares by digest where both have one, by plain value where both have that.
func (s Sensitive) Same(o Sensitive) bool {
	if s.Digest != "" && o.Digest != "" {
		return s.Digest == o.Digest
	}
	return s.has && o.has && s.plain == o.plain
}
