// Package durable replaces files so that whatever happens, a crash of the process or
// of the machine at any moment, the old content is there or the new one, whole.
//
// It is for what must not be lost: keys, certificates, an agent's checkpoint. It knows
// nothing of what is in the files; content goes in and is on the disk when it returns.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace gives a file another content, or makes it; only its owner may read it. It
// returns when both the content and the name are on the disk. Of two at once one wins.
func Replace(path string, content []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // not there any more when all went well
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
