package network

import (
	"os"

	"golang.org/x/sys/unix"
)

// replace writes a file whole: who reads it sees what was there before, or all of
// what is new. It is not synced: after a crash of the machine no pod is left whose
// address the file could tell.
//
// The old and the new file change places, and the old one is written over the next
// time. Renaming over it would end an inode and begin another with every pod, for
// which ext4 searches longer the more of them have ended in the last seconds.
func replace(path string, b []byte) error {
	next := spare(path)
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Truncate(int64(len(b)))
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE) == nil {
		return nil
	}
	return os.Rename(next, path) // there is no old one, or the file system cannot exchange
}

// spare is where a file's next content is written.
func spare(path string) string { return path + ".new" }
