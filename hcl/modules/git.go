package modules

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// settings make a checkout the same on every machine, whoever's it is: no end of
// a line is changed, nobody's hooks run, and large files in git-lfs stay pointers.
var settings = []string{
	"-c", "core.autocrlf=false", "-c", "core.eol=lf", "-c", "core.symlinks=true", "-c", "core.hooksPath=/dev/null",
	"-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false", "-c", "init.defaultBranch=main", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
	"-c", "filter.lfs.smudge=", "-c", "filter.lfs.process=", "-c", "filter.lfs.required=false",
}

// inherited are the variables by which git tells its hooks which repository they
// are in; berth may run in one.
var inherited = []string{
	"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
	"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_NAMESPACE",
}

// repository is a directory that git fetches into.
type repository struct{ dir string }

// git runs git and returns what it printed. It asks nobody for a password:
// there may be nobody, and a question would hang a pipeline.
func (r repository) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", slices.Concat([]string{"-C", r.dir}, settings, args)...)
	cmd.WaitDelay = 5 * time.Second
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(inherited, name) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=file:git:http:https:ssh", "LC_ALL=C")
	if os.Getenv("GIT_SSH_COMMAND") == "" {
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes")
	}
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &told
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return "", &object.Error{Code: object.CodeUnavailable, Message: "there is no git on this machine, which fetches modules", Hint: "Install it (apt-get install git), or copy the module beside the configuration."}
	case err != nil:
		return "", errors.New(lastWords(told.String(), err))
	}
	return strings.TrimSpace(out.String()), nil
}

// lastWords is what git said was wrong: its lines that say so, without what it
// adds for people.
func lastWords(told string, err error) string {
	var lines []string
	for line := range strings.Lines(told) {
		line = strings.TrimSpace(line)
		for _, mark := range []string{"fatal: ", "error: ", "remote: "} {
			if text, ok := strings.CutPrefix(line, mark); ok {
				lines = append(lines, strings.TrimSuffix(text, "."))
			}
		}
	}
	if len(lines) == 0 {
		if text := strings.TrimSpace(told); text != "" {
			return text
		}
		return err.Error()
	}
	return strings.Join(slices.Compact(lines), "; ")
}

var commitForm = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// fetch brings one commit here: the one given, else what the source's ref is now.
func (r repository) fetch(ctx context.Context, s Source, commit string) (string, error) {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return "", err
	}
	if _, err := r.git(ctx, "init", "--quiet", "--template="); err != nil {
		return "", err
	}
	want := commit
	if want == "" {
		want = s.Ref
	}
	if want == "" {
		want = "HEAD"
	}
	// One commit of one ref is enough, and a server that knows the protocol of the
	// last ten years gives a commit by its name.
	if _, err := r.git(ctx, "fetch", "--quiet", "--no-tags", "--depth=1", "--", s.URL, want); err == nil {
		return r.git(ctx, "rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}")
	} else if object.IsCode(err, object.CodeUnavailable) || ctx.Err() != nil {
		return "", err
	}
	// Else it is a commit's short name, an old server, or nothing at all.
	if _, err := r.git(ctx, "fetch", "--quiet", "--no-tags", "--", s.URL, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"); err != nil {
		return "", err
	}
	for _, name := range []string{"refs/tags/" + want, "refs/remotes/origin/" + want, want} {
		if found, err := r.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}"); err == nil && commitForm.MatchString(found) {
			return found, nil
		}
	}
	if commit != "" {
		return "", &object.Error{Code: object.CodeNotFound, Message: "the commit " + commit + ", which the lock file pins, is not there any more", Hint: "Somebody rewrote the history. Look at what there is now, then: berth init --upgrade"}
	}
	names, err := r.git(ctx, "for-each-ref", "--format=%(refname:lstrip=2)")
	if err != nil {
		return "", err
	}
	var refs []string
	for name := range strings.Lines(names) {
		refs = append(refs, strings.TrimPrefix(strings.TrimSpace(name), "origin/"))
	}
	return "", &object.Error{Code: object.CodeNotFound, Message: "there is no tag, branch or commit " + want, Hint: object.DidYouMean(want, refs)}
}

// checkout writes a commit's files and takes the repository away.
func (r repository) checkout(ctx context.Context, commit string) error {
	if _, err := r.git(ctx, "checkout", "--quiet", "--detach", "--force", commit); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(r.dir, ".git"))
}
