package hcl

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// overlay are the texts of an editor that are not saved yet, by absolute path.
type overlay map[string][]byte

// read is os.ReadFile, for what is not in the overlay.
func (o overlay) read(file string) ([]byte, error) {
	if len(o) > 0 {
		if abs, err := filepath.Abs(file); err == nil {
			if text, ok := o[abs]; ok {
				return text, nil
			}
		}
	}
	return os.ReadFile(file)
}

// names are the files of a directory, those included that nobody has saved yet.
func (o overlay) names(dir string, entries []fs.DirEntry) []string {
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(o) == 0 {
		return names
	}
	if abs, err := filepath.Abs(dir); err == nil {
		for file := range o {
			if filepath.Dir(file) == abs {
				names = append(names, filepath.Base(file))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
