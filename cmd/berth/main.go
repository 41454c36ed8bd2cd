// Command berth is the whole of Berth in one binary: the client commands
// (plan, apply, get, …), `berth master`, `berth node` and `berth dev`.
//
// This package joins the others and holds no logic of its own: a command parses
// its arguments (kong), calls hcl, planner, client, master or agent, hands what
// it got to cmd/internal/view and returns an exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/berthdev/berth/cluster/object"
)

// Exit codes, as documented in docs/cli.md.
const (
	exitOK          = 0
	exitError       = 1
	exitChanges     = 2 // plan --detailed-exitcode: there are changes
	exitStale       = 3 // apply: the saved plan is stale
	exitFailed      = 4 // apply: the rollout failed (and was put back)
	exitPolicy      = 5 // apply: refused by a guard, a policy or a freeze
	exitUnplaceable = 6 // plan, apply: some pod fits on no node
	exitUsage       = 64
)

// exitCode is an error that says how to exit and that everything has been told
// already.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Globals are the flags that every command takes.
type Globals struct {
	Chdir          string `short:"C" name:"chdir" placeholder:"DIR" complete:"directory" help:"Directory of the configuration." default:"."`
	Address        string `name:"address" env:"BERTH_ADDR" placeholder:"HOST:PORT" help:"A master to talk to; several with commas."`
	Token          string `name:"token" env:"BERTH_TOKEN" placeholder:"TOKEN" help:"Client token; default: the certificate of the client configuration."`
	Config         string `name:"config" env:"BERTH_CONFIG" placeholder:"FILE" type:"path" help:"Client configuration; default: ~/.berth/config."`
	Cluster        string `name:"cluster" env:"BERTH_CLUSTER" complete:"cluster" placeholder:"NAME" help:"Cluster of the client configuration; default: its current one."`
	OverridePolicy string `name:"override-policy" placeholder:"REASON" help:"Go on against soft policies; the reason is recorded. For commands that write."`
	OverrideFreeze string `name:"override-freeze" placeholder:"REASON" help:"Go on in the window of a freeze; the reason is recorded. For commands that write."`
	NoColor        bool   `name:"no-color" help:"No colours; NO_COLOR does the same."`
	Input          bool   `name:"input" default:"true" negatable:"" help:"Ask for what is missing. With --input=false, or BERTH_INPUT=0, nobody is asked."`
}

// CLI is the tree of commands.
type CLI struct {
	Globals

	Init     InitCmd     `cmd:"" help:"Fetch the modules that stand elsewhere and pin them in the lock file."`
	Validate ValidateCmd `cmd:"" help:"Check a configuration without a cluster."`
	Fmt      FmtCmd      `cmd:"" help:"Rewrite configuration files in the canonical layout."`
	Plan     PlanCmd     `cmd:"" help:"Show what would change and what would happen."`
	Apply    ApplyCmd    `cmd:"" help:"Carry out a plan."`
	Destroy  DestroyCmd  `cmd:"" help:"Remove everything that the configuration's stack declares."`
	Show     ShowCmd     `cmd:"" help:"Show a saved plan, the stack as the masters hold it, or a revision."`
	Graph    GraphCmd    `cmd:"" help:"Draw who waits for whom: the waves of a rollout."`
	Output   OutputCmd   `cmd:"" help:"Show the stack's outputs."`
	Test     TestCmd     `cmd:"" help:"Run the configuration's tests in a twin, without a cluster."`
	Console  ConsoleCmd  `cmd:"" help:"Try expressions against a configuration, without a cluster."`
	Import   ImportCmd   `cmd:"" help:"Take an object that is there, and belongs to no stack, into the stack."`
	State    StateCmd    `cmd:"" help:"What the stack owns: list it, show it, rename or let go of it."`
	Lsp      LspCmd      `cmd:"" help:"Help an editor, which starts this itself: mistakes, completion, documentation."`
	Schema   SchemaCmd   `cmd:"" help:"Print the JSON Schema of configurations in JSON, *.hcl.json, for editors."`

	Policy PolicyCmd `cmd:"" help:"Try policy files without a cluster."`

	Get      GetCmd      `cmd:"" help:"List objects of a kind."`
	Describe DescribeCmd `cmd:"" help:"Show one object with everything that belongs to it."`
	Logs     LogsCmd     `cmd:"" help:"Show what containers wrote."`
	Events   EventsCmd   `cmd:"" help:"Show what happened."`
	Forward  ForwardCmd  `cmd:"" name:"port-forward" help:"Reach a port of a pod or service from this machine."`
	Wait     WaitCmd     `cmd:"" help:"Wait until an object is healthy, gone, or something else."`
	Why      WhyCmd      `cmd:"" help:"Say why a pod is where it is, or nowhere."`

	Rollout  RolloutCmd  `cmd:"" help:"Watch and steer a deployment's rollout."`
	History  HistoryCmd  `cmd:"" help:"List the stack's revisions."`
	Diff     DiffCmd     `cmd:"" help:"Compare two revisions of the stack, or one with what is in force."`
	Rollback RollbackCmd `cmd:"" help:"Put the whole stack back to an earlier revision."`

	Node     NodeCmd     `cmd:"" help:"Nodes: list, cordon, drain; or be one."`
	Master   MasterCmd   `cmd:"" help:"Masters: list, remove; or be one."`
	Dev      DevCmd      `cmd:"" help:"A whole cluster on this machine."`
	Login    LoginCmd    `cmd:"" help:"Log in by an identity token, as jobs of CI systems do."`
	Token    TokenCmd    `cmd:"" help:"Tokens by which masters, nodes and clients join."`
	Image    ImageCmd    `cmd:"" help:"Images on the nodes."`
	Snapshot SnapshotCmd `cmd:"" help:"Save and restore the state of the cluster."`

	Version    VersionCmd    `cmd:"" help:"Show the version."`
	Completion CompletionCmd `cmd:"" help:"Print the shell's completion script."`
}

// session is what a command works with besides its arguments.
type session struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	env    func(string) string
	flags  *Globals
	parser *kong.Kong
	// annotate says diagnostics on standard output too, as GitHub Actions reads them.
	annotate bool
	// lifetime is for how long plans are to be kept; 0: as the masters do.
	lifetime object.Duration
	// asked is the pod that plans are to explain, or nil.
	asked *object.Explanation
	pin   string // whom to ask what tags stand for; see PinFlag
}

// color reports whether to write colours to a stream.
func (s *session) color(w any) bool {
	return terminal(w) && !s.flags.NoColor && s.env("NO_COLOR") == "" && s.env("TERM") != "dumb"
}

// interactive reports whether there is somebody to ask.
func (s *session) interactive() bool {
	return terminal(s.stdin) && s.flags.Input && s.env("BERTH_INPUT") != "0"
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// newParser is the command line's grammar, from the structs' tags.
func newParser(cli *CLI, s *session, more ...kong.Option) (*kong.Kong, error) {
	return kong.New(cli, append([]kong.Option{
		kong.Name("berth"),
		kong.Description("Plan, apply and run containers. What apply will do, plan shows first."),
		kong.Writers(s.stdout, s.stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Help(help),
		kong.UsageOnError(),
		kong.NamedMapper("variable", variableMapper()),
		kong.Bind(s),
	}, more...)...)
}

// help prints a command's help; that of a group which stands for one of its commands
// has the flags of that one, too, for most people mean it.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	if n := ctx.Selected(); n != nil && n.DefaultCmd != nil {
		own := n.Flags
		n.Flags = slices.Concat(own, n.DefaultCmd.Flags)
		defer func() { n.Flags = own }()
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// run is main without the process: tests call it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) (code int) {
	clientMemory()

	var cli CLI
	s := &session{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, env: env, flags: &cli.Globals}
	exited := -1
	parser, err := newParser(&cli, s, kong.Exit(func(c int) { exited = c; panic(exitCode(c)) }))
	if err != nil {
		fmt.Fprintln(stderr, "berth:", err)
		return exitError
	}
	s.parser = parser
	// kong ends --help by Exit; that is the only panic caught here.
	defer func() {
		if r := recover(); r != nil {
			if e, ok := r.(exitCode); !ok || exited < 0 {
				panic(r)
			} else {
				code = int(e)
			}
		}
	}()
	if len(args) > 0 && args[0] == completeCommand {
		return s.completeWord(parser.Model, args[1:])
	}
	args, err = normalize(parser.Model, args, env)
	if err != nil {
		fmt.Fprintln(stderr, "berth:", err)
		return exitUsage
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if err != nil {
		if hint := spelling(parser.Model, args); hint != "" {
			wrong, _, _ := strings.Cut(err.Error(), ", did you mean ")
			fmt.Fprintf(stderr, "berth: %s\n%s\n", wrong, hint)
		} else {
			fmt.Fprintf(stderr, "berth: %s\n", err)
		}
		fmt.Fprintln(stderr, `Run "berth --help", or "berth COMMAND --help", for the spelling.`)
		return exitUsage
	}
	return s.exit(k.Run())
}

// exit tells an error, once, and turns it into the exit code.
func (s *session) exit(err error) int {
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled) && s.ctx.Err() != nil:
		return exitError
	}
	s.tell(err)
	switch object.CodeOf(err) {
	case object.CodeStale:
		return exitStale
	case object.CodeUnplaceable:
		return exitUnplaceable
	case object.CodeGuard, object.CodePolicy, object.CodeFrozen:
		return exitPolicy
	}
	return exitError
}
