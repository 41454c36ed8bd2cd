package modules

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"
)

// hashOf names a directory by its files, as Go and Terraform do (h1:…). A symbolic
// link counts as what it says, and must not lead outside: what is behind it would
// be pinned by nothing.
func hashOf(dir string) (string, error) {
	var names []string
	links := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if at, err := filepath.Rel(dir, filepath.Join(filepath.Dir(path), to)); err != nil || filepath.IsAbs(to) || at == ".." || strings.HasPrefix(at, ".."+string(filepath.Separator)) {
				return fmt.Errorf("the symbolic link %s leads out of the module, to %s", name, to)
			}
			links[name] = to
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is neither a file nor a directory", name)
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		return "", err
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
		if to, ok := links[name]; ok {
			return io.NopCloser(strings.NewReader("symbolic link to " + to)), nil
		}
		return os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	})
}
