package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
)

// version is set by the linker.
var version = "0.1.0-dev"

// JSONFlag asks for the machine's format.
type JSONFlag struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// NamespaceFlags choose where to look.
type NamespaceFlags struct {
	Namespace     string `short:"n" env:"BERTH_NAMESPACE" complete:"namespace" placeholder:"NAME" help:"Namespace; default: that of the configuration here, else \"default\"."`
	AllNamespaces bool   `short:"A" help:"Every namespace."`
}

// environ is the environment with the flags laid over it, as the client reads it.
func (s *session) environ(name string) string {
	flag := map[string]string{"BERTH_ADDR": s.flags.Address, "BERTH_TOKEN": s.flags.Token, "BERTH_CONFIG": s.flags.Config}[name]
	if flag != "" {
		return flag
	}
	return s.env(name)
}

// connect makes the client of the cluster chosen.
func (s *session) connect() (*client.Client, error) {
	config, err := client.Load(s.flags.Cluster, s.environ)
	if err != nil {
		return nil, err
	}
	config.Override, config.OverrideFreeze = s.flags.OverridePolicy, s.flags.OverrideFreeze
	return client.New(config)
}

// namespace is where a command looks: the flag, else the one of the
// configuration in the directory, so that people need not repeat it.
func (s *session) namespace(f NamespaceFlags) string {
	switch {
	case f.AllNamespaces:
		return ""
	case f.Namespace != "":
		return f.Namespace
	}
	if _, ns, ok := hcl.Identify(s.flags.Chdir); ok {
		return ns
	}
	return object.DefaultNamespace
}

// load evaluates the configuration of -C. Mistakes are told here; the error then
// carries only the exit code.
func (s *session) load(vars VariableFlags) (*hcl.Configuration, error) {
	configurationMemory()
	commit := make(chan string, 1)
	dir := s.flags.Chdir
	go func() { commit <- gitCommit(dir) }()
	o := s.options(vars)
	o.Read = s.read
	cfg, diags := hcl.Load(s.flags.Chdir, o)
	if s.diagnose(diags) {
		return nil, exitCode(exitError)
	}
	cfg.Source.Commit = <-commit
	return cfg, nil
}

func (s *session) options(vars VariableFlags) hcl.Options {
	o := hcl.Options{Vars: vars.arguments(), Environ: os.Environ(), Version: version, Now: time.Now().UTC().Truncate(time.Second)}
	o.Modules = s.modules().Find
	if s.interactive() {
		o.Input = s.question
	}
	return o
}

// gitCommit names the commit that a directory is at, if it is in a git checkout.
func gitCommit(dir string) string {
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return ""
	}
	if changed, err := git("status", "--porcelain", "--", "."); err != nil || changed != "" {
		commit += "-dirty"
	}
	return commit
}

// question asks for a variable's value.
func (s *session) question(q hcl.Question) (string, error) {
	fmt.Fprintf(s.stderr, "var.%s\n", q.Name)
	if q.Description != "" {
		fmt.Fprintf(s.stderr, "  %s\n", q.Description)
	}
	fmt.Fprint(s.stderr, "\n  Enter a value: ")
	if f, ok := s.stdin.(*os.File); ok && q.Sensitive {
		return readHidden(f, s.stderr)
	}
	return s.line()
}

// line reads one line; its end without a newline is the end of the input.
func (s *session) line() (string, error) {
	text, err := bufio.NewReader(s.stdin).ReadString('\n')
	if err != nil && text == "" {
		return "", err
	}
	return strings.TrimRight(text, "\r\n"), nil
}

// confirm asks; anything but "yes" is a no. Without anybody to ask it is an error.
func (s *session) confirm(question, detail string) error {
	if !s.interactive() {
		return &object.Error{Code: object.CodeInvalid, Message: "there is nobody to ask whether to go on", Hint: "Say yes beforehand with --auto-approve."}
	}
	fmt.Fprintf(s.stdout, "\n%s\n", question)
	if detail != "" {
		fmt.Fprintf(s.stdout, "  %s\n", detail)
	}
	fmt.Fprint(s.stdout, "  Only 'yes' will be accepted to approve.\n\n  Enter a value: ")
	answer, err := s.line()
	if err != nil || answer != "yes" {
		fmt.Fprintln(s.stdout, "\nCancelled. Nothing was written.")
		return exitCode(exitError)
	}
	fmt.Fprintln(s.stdout)
	return nil
}

// style is what the reader of a stream can be shown.
func (s *session) style(w any) view.Options {
	return view.Options{Color: s.color(w), TTY: terminal(w), Width: width(w)}
}

// tableStyle is style for a table on standard output.
func (s *session) tableStyle(wide bool) view.Options {
	o := s.style(s.stdout)
	o.Wide = wide
	return o
}

// diagnose tells diagnostics on standard error and reports whether there are
// errors among them.
func (s *session) diagnose(d object.Diagnostics) bool {
	quote(d)
	view.Diagnostics(s.stderr, d, s.style(s.stderr))
	if s.annotate {
		view.Annotations(s.stdout, d)
	}
	return d.HasErrors()
}

// quote puts the line itself into diagnostics that know only where it is: those
// of the planner, who reads no files.
func quote(d object.Diagnostics) {
	for i := range d {
		if d[i].Range == nil || d[i].Snippet != "" {
			continue
		}
		text, err := os.ReadFile(d[i].Range.File)
		if err != nil {
			continue
		}
		if lines := strings.Split(string(text), "\n"); d[i].Range.Start.Line >= 1 && d[i].Range.Start.Line <= len(lines) {
			d[i].Snippet = lines[d[i].Range.Start.Line-1]
		}
	}
}

// tell writes an error that ended a command.
func (s *session) tell(err error) {
	view.Error(s.stderr, err, s.style(s.stderr))
}

// json writes a value for machines.
func (s *session) json(v any) error { return view.JSON(s.stdout, v) }

// table writes rows that are not objects.
func (s *session) table(rows ...[]string) error {
	w := tabwriter.NewWriter(s.stdout, 0, 0, 3, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}
