package pki

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/berthdev/berth/cluster/durable"
)

// Files is where a machine keeps what it is known by:
//
//	ca.crt    the cluster's authority
//	ca.key    its key; on masters only
//	tls.pem   this machine's key, certificate and the authority's: one file, so
//	          that no crash can leave a key beside another key's certificate
//
// The directory is 0700 and every file 0600.
type Files struct{ Dir string }

func (f Files) path(name string) string { return filepath.Join(f.Dir, name) }

// Joined reports whether a certificate is there.
func (f Files) Joined() bool {
	_, err := os.Stat(f.path("tls.pem"))
	return err == nil
}

// Identity reads the certificate; fs.ErrNotExist means that there is none yet.
func (f Files) Identity() (*Identity, error) {
	pair, err := f.read("tls.pem")
	if err != nil {
		return nil, err
	}
	root, err := f.read("ca.crt")
	if err != nil {
		return nil, err
	}
	id, err := NewIdentity(pair, pair, root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Dir, err)
	}
	return id, nil
}

// CA reads the authority with its key; fs.ErrNotExist means that there is none.
func (f Files) CA() (*CA, error) {
	cert, err := f.read("ca.crt")
	if err != nil {
		return nil, err
	}
	key, err := f.read("ca.key")
	if err != nil {
		return nil, err
	}
	ca, err := ParseCA(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Dir, err)
	}
	return ca, nil
}

// SaveCA writes the authority with its key.
func (f Files) SaveCA(ca *CA) error {
	key, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	if err := f.write("ca.key", key); err != nil {
		return err
	}
	return f.write("ca.crt", ca.CertPEM())
}

// SaveRoot writes the authority's certificate, on machines that do not have its key.
func (f Files) SaveRoot(caPEM []byte) error { return f.write("ca.crt", caPEM) }

// SaveIdentity writes a certificate and its key.
func (f Files) SaveIdentity(chainPEM, keyPEM []byte) error {
	return f.write("tls.pem", slices.Concat(keyPEM, chainPEM))
}

func (f Files) read(name string) ([]byte, error) {
	p := f.path(name)
	info, err := os.Stat(p)
	if err != nil {
		return nil, err
	}
	if m := info.Mode().Perm(); name != "ca.crt" && m&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o); make a new key, or chmod 600 it if nobody has", p, m)
	}
	return os.ReadFile(p)
}

// write replaces a file.
func (f Files) write(name string, b []byte) error {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return err
	}
	return durable.Replace(f.path(name), b)
}
