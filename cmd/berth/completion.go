package main

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-shellwords"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

//go:embed completion
var completionScripts embed.FS

// CompletionCmd is `berth completion`.
type CompletionCmd struct {
	Shell string `arg:"" optional:"" enum:"bash,zsh,fish," default:"" help:"bash, zsh or fish; default: that of SHELL."`
}

// Run prints a script that asks this program for what fits, see completeWord.
func (c *CompletionCmd) Run(s *session) error {
	shell := c.Shell
	if shell == "" {
		shell = filepath.Base(s.env("SHELL"))
	}
	script, err := completionScripts.ReadFile("completion/berth." + shell)
	if err != nil {
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("there is no completion for the shell %q", shell), Hint: "Say which: berth completion bash, zsh or fish."}
	}
	_, err = s.stdout.Write(script)
	return err
}

// completeCommand is what the shells' scripts call: `berth __complete WORD…`,
// where the last word is the one being typed, or `berth __complete --line TEXT`
// with everything up to the cursor. It answers a line for each candidate, the
// whole word and behind a tab what it is, and then what else to offer.
const completeCommand = "__complete"

// What else to offer, besides the candidates.
const (
	offerNothing     = ":none"
	offerFiles       = ":files"
	offerDirectories = ":directories"
	offerMore        = ":nospace" // the candidates are not whole yet
)

// completionPatience bounds how long a key press may wait for the masters.
const completionPatience = 2 * time.Second

// candidate is one word that fits.
type candidate struct{ word, help string }

// completion is one command line being typed.
type completion struct {
	s         *session
	node      *kong.Node
	given     map[string]string // flags with their values, so far
	arguments int               // how many of the command's arguments there are
	pending   *kong.Flag        // its value is what is being typed
	plain     bool              // behind "--"
}

// completeWord prints what fits; it never fails, for there is nobody to tell.
func (s *session) completeWord(app *kong.Application, args []string) int {
	words := args
	if len(args) == 2 && args[0] == "--line" {
		words = splitLine(args[1])
	}
	if len(words) == 0 {
		words = []string{""}
	}
	c := &completion{s: s, node: app.Node, given: map[string]string{}}
	last := len(words) - 1
	for _, w := range words[:last] {
		c.read(w)
	}
	found, offer := c.candidates(words[last])
	for _, x := range found {
		if !strings.HasPrefix(x.word, words[last]) {
			continue
		}
		line := x.word
		if x.help != "" {
			line += "\t" + strings.ReplaceAll(x.help, "\n", " ")
		}
		fmt.Fprintln(s.stdout, line)
	}
	fmt.Fprintln(s.stdout, offer)
	return exitOK
}

// splitLine is the words of a command line without the program; the last one is
// being typed, and empty behind a space.
func splitLine(line string) []string {
	words, err := shellwords.Parse(line)
	if err != nil { // an open quotation mark
		words = strings.Fields(line)
	}
	if strings.TrimRight(line, " \t") != line {
		words = append(words, "")
	}
	if len(words) < 2 {
		return nil
	}
	return words[1:]
}

// read takes in a word that is complete.
func (c *completion) read(w string) {
	switch {
	case c.pending != nil:
		c.given[c.pending.Name] = w
		c.pending = nil
	case c.plain:
		c.arguments++
	case w == "--":
		c.plain = true
	case len(w) > 1 && w[0] == '-':
		name, value, whole := strings.Cut(w, "=")
		f := c.flag(name)
		switch {
		case f == nil:
		case whole:
			c.given[f.Name] = value
		case !f.IsBool():
			c.pending = f
		}
	default:
		if c.arguments == 0 {
			for _, child := range c.node.Children {
				if child.Name == w {
					c.node = child
					return
				}
			}
		}
		c.arguments++
	}
}

// flags are those that may stand here: of the command, of those above it, and of
// the one that runs when none below it is named.
func (c *completion) flags() []*kong.Flag {
	var out []*kong.Flag
	if c.node.DefaultCmd != nil {
		out = append(out, c.node.DefaultCmd.Flags...)
	}
	for n := c.node; n != nil; n = n.Parent {
		out = append(out, n.Flags...)
	}
	return slices.DeleteFunc(out, func(f *kong.Flag) bool { return f.Hidden })
}

// flag finds one as it is typed: --name, -name or -n.
func (c *completion) flag(typed string) *kong.Flag {
	for _, f := range c.flags() {
		if typed == "--"+f.Name || typed == "-"+f.Name || f.Short != 0 && typed == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}

// candidates are the words that could be meant by one that has begun so.
func (c *completion) candidates(word string) ([]candidate, string) {
	if c.pending != nil {
		return c.values(c.pending.Value, word)
	}
	if !c.plain && strings.HasPrefix(word, "-") {
		if name, value, ok := strings.Cut(word, "="); ok {
			f := c.flag(name)
			if f == nil {
				return nil, offerNothing
			}
			found, offer := c.values(f.Value, value)
			for i := range found {
				found[i].word = name + "=" + found[i].word
			}
			return found, offer
		}
		return c.flagNames(), offerNothing
	}
	if c.arguments == 0 && !c.plain && len(c.node.Children) > 0 {
		var out []candidate
		for _, child := range c.node.Children {
			if !child.Hidden {
				out = append(out, candidate{child.Name, child.Help})
			}
		}
		return out, offerNothing
	}
	args := c.node.Positional
	if len(args) == 0 {
		return nil, offerNothing
	}
	at := c.arguments
	if at >= len(args) {
		if at = len(args) - 1; !args[at].IsCumulative() {
			return nil, offerNothing
		}
	}
	return c.values(args[at], word)
}

func (c *completion) flagNames() []candidate {
	var out []candidate
	for _, f := range c.flags() {
		out = append(out, candidate{"--" + f.Name, f.Help})
		if f.Tag.Negatable != "" {
			out = append(out, candidate{"--no-" + f.Name, "Not: " + f.Help})
		}
	}
	slices.SortFunc(out, func(a, b candidate) int { return strings.Compare(a.word, b.word) })
	return out
}

// values are what a flag or an argument takes: the words of its enum, files, or
// what its tag "complete" names.
func (c *completion) values(v *kong.Value, word string) ([]candidate, string) {
	switch {
	case v.Enum != "":
		var out []candidate
		for _, x := range v.EnumSlice() {
			if x != "" {
				out = append(out, candidate{word: x})
			}
		}
		return out, offerNothing
	case slices.Contains([]string{"existingfile", "path"}, v.Tag.Type):
		return nil, offerFiles
	}
	switch what := v.Tag.Get("complete"); what {
	case "":
		return nil, offerNothing
	case "file":
		return nil, offerFiles
	case "directory":
		return nil, offerDirectories
	case "kind":
		return kindNames(""), offerNothing
	case "cluster":
		f, err := client.ReadFile(client.ConfigPath(c.environ))
		if err != nil {
			return nil, offerNothing
		}
		var out []candidate
		for _, name := range slices.Sorted(maps.Keys(f.Clusters)) {
			out = append(out, candidate{word: name})
		}
		return out, offerNothing
	case "object":
		kind, _, ok := strings.Cut(word, "/")
		if !ok {
			return kindNames("/"), offerMore
		}
		return c.objects(kind, kind+"/"), offerNothing
	case "pod|workload":
		if kind, _, ok := strings.Cut(word, "/"); ok {
			return c.objects(kind, kind+"/"), offerNothing
		}
		return slices.Concat(c.objects(string(object.KindPod), ""), c.objects(string(object.KindDeployment), "deployment/")), offerNothing
	default:
		return c.objects(what, ""), offerNothing
	}
}

func kindNames(end string) []candidate {
	var out []candidate
	for _, info := range object.Kinds() {
		name := info.Plural
		if end != "" {
			name = string(info.Kind)
		}
		out = append(out, candidate{word: name + end})
	}
	return out
}

// environ is the environment with the flags that have been typed.
func (c *completion) environ(name string) string {
	c.s.flags.Address, c.s.flags.Token, c.s.flags.Config = c.given["address"], c.given["token"], c.given["config"]
	return c.s.environ(name)
}

// objects are the names of a kind's objects, as far as the masters tell quickly.
func (c *completion) objects(kind, prefix string) []candidate {
	k, err := object.ParseKind(kind)
	if err != nil {
		return nil
	}
	c.s.flags.Chdir = "."
	if dir := c.given["chdir"]; dir != "" {
		c.s.flags.Chdir = dir
	}
	config, err := client.Load(c.given["cluster"], c.environ)
	if err != nil {
		return nil
	}
	config.Patience = completionPatience
	cl, err := client.New(config)
	if err != nil {
		return nil
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(c.s.ctx, completionPatience)
	defer cancel()
	o := client.ListOptions{Rows: true}
	if info, _ := object.Info(k); info.Namespaced {
		o.Namespace = c.s.namespace(NamespaceFlags{Namespace: cmp.Or(c.given["namespace"], c.s.env("BERTH_NAMESPACE"))})
	}
	page, err := cl.List(ctx, k, o)
	if err != nil {
		return nil
	}
	var out []candidate
	for _, x := range page.Items {
		out = append(out, candidate{word: prefix + x.Head().Name})
	}
	return out
}
