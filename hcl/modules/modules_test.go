package modules

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, url, ref, dir, wrong string }{
		{text: "git::https://example.com/net.git//web?ref=v1.2", url: "https://example.com/net.git", ref: "v1.2", dir: "web"},
		{text: "git::https://example.com/net.git", url: "https://example.com/net.git"},
		{text: "git::https://example.com/net.git?depth=1&ref=a/b", url: "https://example.com/net.git?depth=1", ref: "a/b"},
		{text: "git::ssh://git@example.com:2222/net.git//a/b", url: "ssh://git@example.com:2222/net.git", dir: "a/b"},
		{text: "git::git@example.com:net/web.git?ref=v1", url: "ssh://git@example.com/net/web.git", ref: "v1"},
		{text: "git@github.com:net/web.git//x", url: "ssh://git@github.com/net/web.git", dir: "x"},
		{text: "git::file:///srv/net//web", url: "file:///srv/net", dir: "web"},
		{text: "github.com/net/web//x/y?ref=v1", url: "https://github.com/net/web.git", ref: "v1", dir: "x/y"},
		{text: "github.com/net/web.git", url: "https://github.com/net/web.git"},
		{text: "gitlab.com/group/sub/web//x", url: "https://gitlab.com/group/sub/web.git", dir: "x"},
		{text: "github.com/net", wrong: "names no repository"},
		{text: "github.com/net/web/x", wrong: "names no repository"},
		{text: "hashicorp/consul/aws", wrong: "no known form"},
		{text: "https://example.com/net.zip", wrong: "no known form"},
		{text: "git::ext::sh -c x", wrong: "no"},
		{text: "git::--upload-pack=x", wrong: "no"},
		{text: "git::ssh://-oProxyCommand=x/net", wrong: "names no host"},
		{text: "git::https://example.com/net?ref=--x", wrong: "a ref that is none"},
		{text: "git::https://example.com/net?ref=a..b", wrong: "a ref that is none"},
		{text: "git::https://example.com/net//../x", wrong: "a directory that is none"},
		{text: "git::https:///net", wrong: "names no host"},
	} {
		got, err := Parse(c.text)
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %+v, %v; want an error about %q", c.text, got, err, c.wrong)
			}
		case err != nil:
			t.Errorf("%s: %v", c.text, err)
		case got != Source{c.url, c.ref, c.dir}:
			t.Errorf("%s: %+v", c.text, got)
		default: // a package is a source of the same package
			again, err := Parse(got.Package())
			if err != nil || again != (Source{URL: c.url, Ref: c.ref}) {
				t.Errorf("%s: its package %s is %+v, %v", c.text, got.Package(), again, err)
			}
		}
	}
}

// origin is a repository to fetch from.
type origin struct {
	t   *testing.T
	dir string
}

func newOrigin(t *testing.T) origin {
	o := origin{t, t.TempDir()}
	o.git("init", "--quiet", "--initial-branch=main")
	return o
}

func (o origin) git(args ...string) string {
	o.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", o.dir, "-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (o origin) commit(files map[string]string) string {
	o.t.Helper()
	write(o.t, o.dir, files)
	o.git("add", "--all")
	o.git("commit", "--quiet", "--message=x")
	return o.git("rev-parse", "HEAD")
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// find looks a source up in the configuration of dir, and saves the lock unless
// the mode is Locked.
func find(t *testing.T, dir, source string, mode Mode) (hcl.Fetched, error) {
	t.Helper()
	s := New(context.Background(), dir, mode)
	f, err := s.Find(source)
	if err == nil && mode != Locked {
		if _, err := s.Save(); err != nil {
			t.Fatal(err)
		}
	}
	return f, err
}

func must(t *testing.T, dir, source string, mode Mode) string {
	t.Helper()
	f, err := find(t, dir, source, mode)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(f.Dir, "main.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func refused(t *testing.T, dir, source string, mode Mode, parts ...string) {
	t.Helper()
	_, err := find(t, dir, source, mode)
	if err == nil {
		t.Fatalf("%s was not refused", source)
	}
	text := err.Error()
	if e, ok := err.(*object.Error); ok {
		text += " | " + e.Hint
	}
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s\nlacks %q", text, p)
		}
	}
}

// A lock pins: what a branch becomes later is seen by --upgrade only, a removed
// cache is fetched as pinned, and a cache serves without the repository.
func TestLock(t *testing.T) {
	o, dir := newOrigin(t), t.TempDir()
	first := o.commit(map[string]string{"web/main.hcl": "# one\n"})
	source := "git::file://" + o.dir + "//web?ref=main"

	refused(t, dir, source, Locked, "is not in .berth.lock.hcl", "berth init")
	if _, err := os.Stat(filepath.Join(dir, ".berth")); err == nil {
		t.Error("a refused source was fetched")
	}
	if got := must(t, dir, source, Init); got != "# one\n" {
		t.Error(got)
	}
	lock, err := os.ReadFile(filepath.Join(dir, hcl.LockFile))
	if err != nil || !strings.Contains(string(lock), first) {
		t.Fatalf("%v\n%s", err, lock)
	}
	second := o.commit(map[string]string{"web/main.hcl": "# two\n"})
	for _, mode := range []Mode{Locked, Init} {
		if got := must(t, dir, source, mode); got != "# one\n" {
			t.Errorf("mode %d: %s", mode, got)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, ".berth")); err != nil {
		t.Fatal(err)
	}
	if got := must(t, dir, source, Locked); got != "# one\n" {
		t.Error("fetched anew:", got)
	}
	if err := os.Rename(o.dir, o.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if got := must(t, dir, source, Locked); got != "# one\n" {
		t.Error("offline:", got)
	}
	refused(t, dir, source, Upgrade, "cannot be fetched")
	if err := os.Rename(o.dir+".away", o.dir); err != nil {
		t.Fatal(err)
	}
	if got := must(t, dir, source, Upgrade); got != "# two\n" {
		t.Error("upgraded:", got)
	}
	lock, _ = os.ReadFile(filepath.Join(dir, hcl.LockFile))
	if !strings.Contains(string(lock), second) || strings.Contains(string(lock), first) {
		t.Errorf("%s", lock)
	}
}

// Every way to name a commit.
func TestRefs(t *testing.T) {
	o := newOrigin(t)
	first := o.commit(map[string]string{"main.hcl": "# one\n"})
	o.git("tag", "--annotate", "--message=x", "v1")
	o.git("branch", "old/one")
	o.commit(map[string]string{"main.hcl": "# two\n"})
	for ref, want := range map[string]string{"": "two", "v1": "one", "old/one": "one", "main": "two", first: "one", first[:9]: "one"} {
		source := "git::file://" + o.dir
		if ref != "" {
			source += "?ref=" + ref
		}
		if got := must(t, t.TempDir(), source, Init); got != "# "+want+"\n" {
			t.Errorf("ref %q: %s", ref, got)
		}
	}
	refused(t, t.TempDir(), "git::file://"+o.dir+"?ref=v2", Init, "there is no tag, branch or commit v2", `Did you mean "v1"?`)
}

// What is not as the lock has it is refused, with both hashes and the cure.
func TestChangedUnderItsLock(t *testing.T) {
	o, dir := newOrigin(t), t.TempDir()
	o.commit(map[string]string{"main.hcl": "# one\n"})
	o.git("tag", "v1")
	source := "git::file://" + o.dir + "?ref=v1"
	f, err := find(t, dir, source, Init)
	if err != nil {
		t.Fatal(err)
	}
	locked, _ := hcl.ReadLock(dir)
	pinned := locked[0]

	write(t, f.Dir, map[string]string{"main.hcl": "# edited\n"})
	edited, err := hashOf(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, dir, source, Locked, "were changed", pinned.Hash, edited, "Remove that directory")
	refused(t, dir, source, Init, "were changed")

	// A lock whose hash is another than the commit's.
	forged := pinned
	forged.Hash = edited
	if err := os.RemoveAll(filepath.Join(dir, ".berth")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{hcl.LockFile: string(hcl.FormatLock([]hcl.Locked{forged}))})
	refused(t, dir, source, Locked, "changed under its lock", pinned.Hash, edited, "berth init --upgrade")
	entries, err := os.ReadDir(filepath.Join(dir, Directory))
	if err != nil || len(entries) != 1 { // .gitignore
		t.Errorf("%v %v", entries, err)
	}

	// A history that was rewritten: the commit is gone, the tag is another.
	write(t, dir, map[string]string{hcl.LockFile: string(hcl.FormatLock([]hcl.Locked{pinned}))})
	o.git("checkout", "--quiet", "--orphan", "new")
	o.commit(map[string]string{"main.hcl": "# two\n"})
	o.git("branch", "--delete", "--force", "main")
	o.git("tag", "--force", "v1")
	o.git("reflog", "expire", "--expire=now", "--all")
	o.git("gc", "--quiet", "--prune=now")
	refused(t, dir, source, Locked, "the commit "+pinned.Commit, "berth init --upgrade")
	refused(t, dir, source, Init, "the commit "+pinned.Commit)
	if got := must(t, dir, source, Upgrade); got != "# two\n" {
		t.Error(got)
	}

	for text, want := range map[string]string{
		"module \"" + "x" + "\" {\n  commit = 1\n}\n": "commit is a text",
		"modul \"x\" {\n}\n":                          "blocks module",
		"module \"git::file://" + o.dir + "?ref=v1\" {\n  commit = \"x\"\n  hash = \"h2:x\"\n}\n": "no hash of the form h1:",
	} {
		write(t, dir, map[string]string{hcl.LockFile: text})
		refused(t, dir, source, Locked, want)
	}
}

// A symbolic link is part of the hash and does not lead outside.
func TestLinks(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"a/main.hcl": "# one\n"})
	if err := os.Symlink("a", filepath.Join(o.dir, "b")); err != nil {
		t.Fatal(err)
	}
	o.commit(nil)
	source := "git::file://" + o.dir + "//b"
	dir := t.TempDir()
	if got := must(t, dir, source, Init); got != "# one\n" {
		t.Error(got)
	}
	before, err := hashOf(o.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(o.dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(o.dir, "b")); err != nil {
		t.Fatal(err)
	}
	o.commit(nil)
	refused(t, dir, source, Upgrade, "the symbolic link b leads out of the module, to /etc")
	if after, err := hashOf(o.dir); err == nil || after == before {
		t.Error("the link's end is no part of the hash")
	}
}

// Line ends, hooks and the repository that berth runs in do not change what is fetched.
func TestSurroundings(t *testing.T) {
	o := newOrigin(t)
	o.commit(map[string]string{"main.hcl": "# one\n"})
	source, dir := "git::file://"+o.dir, t.TempDir()
	must(t, dir, source, Init)
	home := t.TempDir()
	write(t, home, map[string]string{
		"config":              "[core]\n\tautocrlf = true\n\thooksPath = " + home + "/hooks\n[init]\n\ttemplateDir = " + home + "/template\n",
		"hooks/post-checkout": "#!/bin/sh\ntouch " + home + "/ran\n",
	})
	if err := os.Chmod(filepath.Join(home, "hooks/post-checkout"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, "config"))
	t.Setenv("GIT_DIR", filepath.Join(home, "none"))
	t.Setenv("GIT_WORK_TREE", home)
	if err := os.RemoveAll(filepath.Join(dir, ".berth")); err != nil {
		t.Fatal(err)
	}
	must(t, dir, source, Locked)
	if _, err := os.Stat(filepath.Join(home, "ran")); err == nil {
		t.Error("a hook ran")
	}
}

// Save keeps what is used and forgets the rest.
func TestSave(t *testing.T) {
	o, dir := newOrigin(t), t.TempDir()
	o.commit(map[string]string{"main.hcl": "# one\n"})
	o.git("tag", "v1")
	o.git("tag", "v2")
	must(t, dir, "git::file://"+o.dir+"?ref=v1", Init)
	s := New(context.Background(), dir, Init)
	if _, err := s.Find("git::file://" + o.dir + "?ref=v2"); err != nil {
		t.Fatal(err)
	}
	changes, err := s.Save()
	if err != nil || len(changes) != 2 || changes[0].Now != "" || changes[1].Was != "" {
		t.Errorf("%+v, %v", changes, err)
	}
	s = New(context.Background(), dir, Init)
	if changes, err := s.Save(); err != nil || len(changes) != 1 {
		t.Errorf("%+v, %v", changes, err)
	}
	if _, err := os.Stat(filepath.Join(dir, hcl.LockFile)); err == nil {
		t.Error("the lock file of a configuration without modules is there still")
	}
}
