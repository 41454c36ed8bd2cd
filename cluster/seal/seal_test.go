package seal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

var db = object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}

func keyring(t *testing.T) *Keyring {
	t.Helper()
	k, err := Generate("")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedValuesOpenOnlyWhereTheyBelong(t *testing.T) {
	k := keyring(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.String().Draw(t, "plain")
		s, err := k.Seal(db, "password", plain)
		if err != nil {
			t.Fatal(err)
		}
		if len(plain) > 3 && bytes.Contains(s.Sealed, []byte(plain)) {
			t.Fatal("the plain value is in the record")
		}
		if got, err := k.Reveal(db, "password", s); err != nil || got != plain {
			t.Fatalf("%q %v", got, err)
		}
		again, err := k.Seal(db, "password", plain)
		if err != nil || bytes.Equal(again.Sealed, s.Sealed) || again.Digest != s.Digest {
			t.Fatal("equal values must have equal digests and different ciphertexts")
		}
		other := db
		other.Name = "web"
		for _, at := range []struct {
			ref object.Ref
			key string
		}{{other, "password"}, {db, "user"}} {
			if _, err := k.Reveal(at.ref, at.key, s); !object.IsCode(err, object.CodeInvalid) {
				t.Fatalf("opened at %v: %v", at, err)
			}
		}
		i := rapid.IntRange(0, len(s.Sealed)-1).Draw(t, "byte")
		broken := bytes.Clone(s.Sealed)
		broken[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := k.Reveal(db, "password", object.Sensitive{Sealed: broken}); err == nil {
			t.Fatal("a changed record opened")
		}
		if _, err := k.Reveal(db, "password", object.Sensitive{Sealed: s.Sealed[:i]}); err == nil {
			t.Fatal("a cut record opened")
		}
	})
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	a, err := Generate(dir)
	if err != nil {
		t.Fatal(err)
	}
	exported, err := a.Export()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Import(t.TempDir(), exported)
	if err != nil {
		t.Fatal(err)
	}
	old, err := a.Seal(db, "k", "v1")
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	if a.Primary() == id {
		t.Error("seals by a key that no other master has")
	}
	exported, err = a.Export()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Merge(exported), a.Promote(id)); err != nil {
		t.Fatal(err)
	}
	fresh, err := a.Seal(db, "k", "v2")
	if err != nil {
		t.Fatal(err)
	}
	reopened, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*Keyring{a, b, reopened} {
		for want, s := range map[string]object.Sensitive{"v1": old, "v2": fresh} {
			if got, err := k.Reveal(db, "k", s); err != nil || got != want {
				t.Errorf("%q %v", got, err)
			}
		}
		if k.Digest("x") != a.Digest("x") {
			t.Error("digests changed by rotation")
		}
		if seal, err := a.Sign(over("plan")); err != nil || !holds(k, "plan", seal) {
			t.Error("seals changed by rotation")
		}
	}
	stranger := keyring(t)
	if _, err := stranger.Reveal(db, "k", fresh); !object.IsCode(err, object.CodeUnavailable) || !strings.Contains(err.Error(), id) {
		t.Error(err)
	}
	if err := stranger.Merge(exported); !object.IsCode(err, object.CodeInvalid) {
		t.Error(err)
	}
	if err := a.Promote("nonsense"); !object.IsCode(err, object.CodeNotFound) {
		t.Error(err)
	}
}

func TestDigestsAndSealsAreKeyed(t *testing.T) {
	a, b := keyring(t), keyring(t)
	if a.Digest("x") == b.Digest("x") || a.Digest("x") == a.Digest("y") || a.Digest("x") != a.Digest("x") {
		t.Error("digests")
	}
	s, err := a.Sign(over("plan"))
	if err != nil {
		t.Fatal(err)
	}
	if !holds(a, "plan", s) || holds(a, "plam", s) || holds(b, "plan", s) || holds(a, "plan", "") || holds(a, "plan", "zz") {
		t.Error("seals")
	}
}

func TestKeyringFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Generate(dir); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, file)
	if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := Generate(dir); !object.IsCode(err, object.CodeExists) {
		t.Errorf("a keyring was replaced: %v", err)
	}
	if err := os.Chmod(p, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Error(err)
	}
	for _, junk := range []string{"", "{}", `{"cluster":"a"}`} {
		if err := os.WriteFile(p, []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("%q is a keyring", junk)
		}
	}
}

func over(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

func holds(k *Keyring, text, seal string) bool {
	ok, err := k.Verify(over(text), seal)
	return ok && err == nil
}
