package consensus

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

// diskWithLog is the bytes of a Raft log with some entries in it.
func diskWithLog(t *testing.T) ([]byte, Config) {
	dir := t.TempDir()
	c := newCluster(t, 1, func(string) Storage { return Disk(dir) }, nil)
	for i := range 40 {
		if _, err := c.leader().Propose(context10(t), create(configMap(fmt.Sprintf("o%02d", i), strings.Repeat("x", 700)))); err != nil {
			t.Fatal(err)
		}
	}
	cfg := c.config("m1")
	c.kill("m1")
	b, err := os.ReadFile(filepath.Join(dir, LogFile))
	if err != nil {
		t.Fatal(err)
	}
	return b, cfg
}

func TestCorruptLogTail(t *testing.T) {
	good, cfg := diskWithLog(t)
	for name, damage := range map[string]func([]byte) []byte{
		"cut short":                 func(b []byte) []byte { return b[:len(b)/2] },
		"tail of a page, cut short": func(b []byte) []byte { return b[:4096*5+100] },
		"head pages overwritten":    func(b []byte) []byte { copy(b, make([]byte, 2*os.Getpagesize())); return b },
		"pages zeroed":              func(b []byte) []byte { clear(b[3*os.Getpagesize():]); return b },
		"not a log":                 func([]byte) []byte { return []byte(strings.Repeat("hello", 5000)) },
		"a bit of an entry": func(b []byte) []byte {
			at := strings.LastIndex(string(b), "xxxxxxxx")
			b[at] ^= 1
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			dir := t.TempDir()
			cfg.Storage, cfg.Network = Disk(dir), NewNetwork()
			path := filepath.Join(dir, LogFile)
			broken := damage(append([]byte(nil), good...))
			if err := os.WriteFile(path, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			n, err := Open(cfg)
			if err == nil {
				n.Kill()
				t.Skip("the damage hit a page that is not in use")
			}
			e, ok := err.(*object.Error)
			if !ok || !strings.Contains(e.Message, path) || !strings.Contains(e.Hint, "snapshot restore") {
				t.Fatalf("the error names neither the file nor the cure: %#v", err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(broken) {
				t.Fatal("the file was changed")
			}
		})
	}
}

// Whatever bytes change, opening answers: no panic, no SIGBUS, no endless loop.
func TestAnyDamageIsAnswered(t *testing.T) {
	good, _ := diskWithLog(t)
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		b := append([]byte(nil), good...)
		for range rapid.IntRange(1, 8).Draw(t, "damages") {
			at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			b[at] = rapid.Byte().Draw(t, "byte")
		}
		b = b[:rapid.IntRange(len(b)*3/4, len(b)).Draw(t, "length")]
		path := filepath.Join(dir, LogFile)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, closeFile, err := openStorage(&Config{Storage: Disk(dir), Logger: discard})
		if err == nil {
			closeFile()
		}
	})
}

// A stage is forgotten at the same entry by every master: when another leads, or
// when the log has moved on too far.
func TestStagesExpire(t *testing.T) {
	data, err := encodeChangeset(&object.Changeset{Author: "x", Changes: create(configMap("a", "1")).Changes})
	if err != nil {
		t.Fatal(err)
	}
	half := len(data) / 2
	id := stageID{1}
	part := func(i int, b []byte) []byte { return partEntry(id, i, b) }
	commit := stageEntry(whatCommit, id, 2)
	for _, c := range []struct {
		name string
		logs []*raft.Log
		ok   bool
	}{
		{"whole", []*raft.Log{{Index: 1, Term: 1, Data: part(0, data[:half])}, {Index: 2, Term: 1, Data: part(1, data[half:])}, {Index: 3, Term: 1, Data: commit}}, true},
		{"out of order", []*raft.Log{{Index: 1, Term: 1, Data: part(1, data[half:])}, {Index: 2, Term: 1, Data: part(0, data[:half])}, {Index: 3, Term: 1, Data: commit}}, true},
		{"a part is missing", []*raft.Log{{Index: 1, Term: 1, Data: part(1, data[half:])}, {Index: 3, Term: 1, Data: commit}}, false},
		{"another leader", []*raft.Log{{Index: 1, Term: 1, Data: part(0, data[:half])}, {Index: 2, Term: 1, Data: part(1, data[half:])}, {Index: 3, Term: 2, Data: commit}}, false},
		{"too late", []*raft.Log{{Index: 1, Term: 1, Data: part(0, data[:half])}, {Index: 2, Term: 1, Data: part(1, data[half:])}, {Index: 3 + stageLife, Term: 1, Data: commit}}, false},
		{"dropped", []*raft.Log{{Index: 1, Term: 1, Data: part(0, data[:half])}, {Index: 2, Term: 1, Data: part(1, data[half:])}, {Index: 3, Term: 1, Data: stageEntry(whatDrop, id, 0)}, {Index: 4, Term: 1, Data: commit}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Once in one batch, once entry by entry with a snapshot between.
			f := newFSM(10, func(err error) { t.Error(err) })
			out := f.ApplyBatch(c.logs)
			last := out[len(out)-1].([]outcome)[0]
			if (last.err == nil) != c.ok || (f.store.Load().Snapshot().Count(object.KindConfigMap) == 1) != c.ok {
				t.Fatalf("the commit answered %v", last.err)
			}
			if len(f.stages) != 0 {
				t.Error("parts are left over")
			}
			g := newFSM(10, func(err error) { t.Error(err) })
			for _, l := range c.logs {
				g.Apply(l)
				g = throughSnapshot(t, g)
			}
			if (g.store.Load().Snapshot().Count(object.KindConfigMap) == 1) != c.ok {
				t.Fatal("with snapshots between it is different")
			}
		})
	}
}
