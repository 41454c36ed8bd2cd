package hcl

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/berthdev/berth/cluster/object"
)

// LockFile is the name of the file, beside the configuration, that pins the
// modules which do not stand beside it. It begins with a dot, so it is no part
// of the configuration.
const LockFile = ".berth.lock.hcl"

// Locked is a pinned source: what it was when somebody looked at it last.
type Locked struct {
	Source string // without the directory inside: git::https://example.com/net.git?ref=v1
	Ref    string // what the source asks for; empty is the default branch
	Commit string
	Hash   string // of the files, h1:…
}

const lockHead = `# Written by "berth init"; commit it with the configuration.
# "berth init --upgrade" looks at the sources again.
`

// FormatLock is the text of a lock file, ordered by source.
func FormatLock(locked []Locked) []byte {
	locked = slices.Clone(locked)
	slices.SortFunc(locked, func(a, b Locked) int { return strings.Compare(a.Source, b.Source) })
	f := hclwrite.NewEmptyFile()
	for _, l := range locked {
		f.Body().AppendNewline()
		b := f.Body().AppendNewBlock("module", []string{l.Source}).Body()
		if l.Ref != "" {
			b.SetAttributeValue("ref", cty.StringVal(l.Ref))
		}
		b.SetAttributeValue("commit", cty.StringVal(l.Commit))
		b.SetAttributeValue("hash", cty.StringVal(l.Hash))
	}
	return append([]byte(lockHead), hclwrite.Format(f.Bytes())...)
}

// ReadLock reads the lock file of a directory. Without one, nothing is pinned.
func ReadLock(dir string) ([]Locked, object.Diagnostics) {
	text, err := os.ReadFile(filepath.Join(dir, LockFile))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, object.Diagnostics{fault("Cannot read the lock file", "%v.", err)}
	}
	src := &source{name: filepath.ToSlash(shownPath(dir, LockFile)), src: text}
	b, diags := parse(src, false)
	var out []Locked
	bad := func(at span, detail string, args ...any) {
		diags = append(diags, wrong(src.rng(at), "Wrong lock file", "%s Restore the file from version control, or write it anew: berth init --upgrade", fmt.Sprintf(detail, args...)))
	}
	for i := range b.attrs {
		bad(b.attrs[i].nameAt, "%q stands alone; there are module blocks only.", b.attrs[i].name)
	}
	seen := map[string]bool{}
	for i := range b.blocks {
		k := &b.blocks[i]
		if k.kind != "module" || len(k.labels) != 1 {
			bad(k.head, "A lock file has blocks module \"SOURCE\" { … } only.")
			continue
		}
		l := Locked{Source: k.labels[0]}
		if seen[l.Source] {
			bad(k.head, "%s stands twice.", l.Source)
		}
		seen[l.Source] = true
		fields := map[string]*string{"ref": &l.Ref, "commit": &l.Commit, "hash": &l.Hash}
		for j := range k.body.attrs {
			a := &k.body.attrs[j]
			to := fields[a.name]
			if to == nil {
				bad(a.nameAt, "There is no attribute %q.", a.name)
				continue
			}
			v, d := a.value(nil)
			if d.HasErrors() || v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
				bad(a.exprAt, "%s is a text.", a.name)
				continue
			}
			*to = v.AsString()
		}
		if l.Commit == "" || l.Hash == "" {
			bad(k.head, "The commit or the hash of %s is missing.", l.Source)
		}
		out = append(out, l)
	}
	return out, fromHCL(diags, map[string][]byte{src.name: text})
}
