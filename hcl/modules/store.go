package modules

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl"
)

// Directory is where fetched modules are kept, beside the configuration. It may
// be removed at any time; what the lock file names is fetched again.
const Directory = ".berth/modules"

// Mode says what is done about a source that the lock file does not pin.
type Mode int

// The modes.
const (
	Locked  Mode = iota // it is refused
	Init                // it is fetched and pinned
	Upgrade             // every source is looked at again, and pinned anew
	Kept                // as Locked, and what is not on this machine is refused, too: nothing is fetched
)

// Store is the modules of one configuration. It is not for use by several
// goroutines at once.
type Store struct {
	// Told is called before something is fetched; optional.
	Told func(source string)

	ctx    context.Context
	dir    string // of the configuration
	mode   Mode
	pinned map[string]hcl.Locked // nil: the lock file has not been read
	roots  map[string]string     // by package: found, and true to the lock, in this run
	used   []hcl.Locked
}

// New makes the store of the configuration in a directory. Nothing is read yet:
// most configurations have no modules from elsewhere.
func New(ctx context.Context, dir string, mode Mode) *Store {
	return &Store{ctx: ctx, dir: dir, mode: mode, roots: map[string]string{}}
}

// Find is hcl.Options.Modules.
func (s *Store) Find(source string) (hcl.Fetched, error) {
	parsed, err := Parse(source)
	if err != nil {
		return hcl.Fetched{}, err
	}
	name := parsed.Package()
	root, ok := s.roots[name]
	if !ok {
		if root, err = s.find(name, parsed); err != nil {
			return hcl.Fetched{}, err
		}
		s.roots[name] = root
	}
	return hcl.Fetched{Root: root, Dir: filepath.Join(root, filepath.FromSlash(parsed.Dir))}, nil
}

func (s *Store) find(name string, source Source) (string, error) {
	if err := s.read(); err != nil {
		return "", err
	}
	lock, pinned := s.pinned[name]
	if s.mode == Upgrade {
		pinned = false
	}
	switch {
	case !pinned && (s.mode == Locked || s.mode == Kept):
		return "", &object.Error{Code: object.CodeNotFound, Message: "the module " + name + " is not in " + hcl.LockFile, Hint: "Fetch and pin it with: berth init"}
	case !pinned:
		lock = hcl.Locked{Source: name, Ref: source.Ref}
	default:
		root, err := s.place(lock.Hash)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(root); err == nil {
			if err := s.unchanged(root, lock); err != nil {
				return "", err
			}
			s.used = append(s.used, lock)
			return root, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if s.mode == Kept {
		return "", &object.Error{Code: object.CodeNotFound, Message: "the module " + name + " is not on this machine", Hint: "Fetch it with: berth init"}
	}
	root, lock, err := s.fetch(source, lock)
	if err != nil {
		return "", err
	}
	s.used = append(s.used, lock)
	return root, nil
}

// unchanged holds what was fetched earlier to the lock.
func (s *Store) unchanged(root string, lock hcl.Locked) error {
	hash, err := hashOf(root)
	if err != nil || hash == lock.Hash {
		return err
	}
	return &object.Error{
		Code:    object.CodeConflict,
		Message: fmt.Sprintf("the files of %s in %s were changed: their hash is %s, and %s pins %s", lock.Source, root, hash, hcl.LockFile, lock.Hash),
		Hint:    "Remove that directory to have the pinned ones again. Changes belong into the module's repository; berth init --upgrade brings them.",
	}
}

// fetch brings a module here: what the lock pins, or what there is now if its
// hash is empty.
func (s *Store) fetch(source Source, lock hcl.Locked) (string, hcl.Locked, error) {
	failed := func(err error) (string, hcl.Locked, error) {
		var told *object.Error
		if errors.As(err, &told) {
			return "", lock, &object.Error{Code: told.Code, Message: "the module " + lock.Source + " cannot be fetched: " + told.Message, Hint: told.Hint}
		}
		return "", lock, fmt.Errorf("the module %s cannot be fetched: %w", lock.Source, err)
	}
	if s.Told != nil {
		s.Told(lock.Source)
	}
	home := filepath.Join(s.dir, filepath.FromSlash(Directory))
	if err := os.MkdirAll(home, 0o755); err != nil {
		return failed(err)
	}
	// Without it every commit that a plan is made at would be called changed.
	if err := os.WriteFile(filepath.Join(home, ".gitignore"), []byte("*\n"), 0o644); err != nil {
		return failed(err)
	}
	work, err := os.MkdirTemp(home, ".fetch-*")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(work)
	r := repository{filepath.Join(work, "tree")}
	commit, err := r.fetch(s.ctx, source, lock.Commit)
	if err != nil {
		return failed(err)
	}
	if err := r.checkout(s.ctx, commit); err != nil {
		return failed(err)
	}
	hash, err := hashOf(r.dir)
	if err != nil {
		return failed(err)
	}
	if lock.Hash != "" && hash != lock.Hash {
		return "", lock, &object.Error{
			Code:    object.CodeConflict,
			Message: fmt.Sprintf("the module %s changed under its lock: commit %s has the hash %s, and %s pins %s", lock.Source, commit, hash, hcl.LockFile, lock.Hash),
			Hint:    "The repository or the lock file was tampered with. Look at both; what is there now is pinned by: berth init --upgrade",
		}
	}
	lock.Commit, lock.Hash = commit, hash
	root, err := s.place(hash)
	if err != nil {
		return failed(err)
	}
	if _, err := os.Stat(root); err == nil { // another source of the same files, or another berth
		if err := s.unchanged(root, lock); err != nil {
			return "", lock, err
		}
		return root, lock, nil
	}
	if err := os.Rename(r.dir, root); err != nil {
		if s.unchanged(root, lock) == nil {
			return root, lock, nil // another berth was faster
		}
		return failed(err)
	}
	return root, lock, nil
}

// place is the directory for files of a hash.
func (s *Store) place(hash string) (string, error) {
	text, ok := strings.CutPrefix(hash, "h1:")
	sum, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(sum) != 32 {
		return "", &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%q in %s is no hash of the form h1:…", hash, hcl.LockFile), Hint: "Restore the file from version control, or write it anew: berth init --upgrade"}
	}
	return filepath.Join(s.dir, filepath.FromSlash(Directory), hex.EncodeToString(sum[:12])), nil
}

// read reads the lock file, once.
func (s *Store) read() error {
	if s.pinned != nil {
		return nil
	}
	locked, diags := hcl.ReadLock(s.dir)
	if diags.HasErrors() && s.mode != Upgrade {
		d := diags[0]
		if d.Range != nil {
			return fmt.Errorf("%s:%d: %s", d.Range.File, d.Range.Start.Line, d.Detail)
		}
		return errors.New(d.Detail)
	}
	s.pinned = make(map[string]hcl.Locked, len(locked))
	for _, l := range locked {
		s.pinned[l.Source] = l
	}
	return nil
}

// Change is what Save did about a source.
type Change struct {
	Source   string
	Was, Now string // commits; empty: not pinned
}

// Save pins what was found in this run, and nothing else, and returns what that
// changed, ordered by source. An unchanged file is not written.
func (s *Store) Save() ([]Change, error) {
	if err := s.read(); err != nil {
		return nil, err
	}
	var out []Change
	left := make(map[string]hcl.Locked, len(s.pinned))
	for k, v := range s.pinned {
		left[k] = v
	}
	for _, l := range s.used {
		if was := left[l.Source]; was != l {
			out = append(out, Change{l.Source, was.Commit, l.Commit})
		}
		delete(left, l.Source)
	}
	for name, l := range left {
		out = append(out, Change{Source: name, Was: l.Commit})
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Source, b.Source) })
	file := filepath.Join(s.dir, hcl.LockFile)
	if len(s.used) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return out, nil
	}
	text := hcl.FormatLock(s.used)
	if before, err := os.ReadFile(file); err == nil && bytes.Equal(before, text) {
		return out, nil
	}
	return out, writeWhole(file, text)
}

// writeWhole replaces a file whole, so that a full disk cannot leave half of it.
func writeWhole(file string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".berth-lock-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(tmp.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
