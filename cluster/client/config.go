package client

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// File is the client's configuration, ~/.berth/config unless BERTH_CONFIG names
// another, as JSON:
//
//	{
//	  "current": "dev",
//	  "clusters": {
//	    "dev": {"addresses": ["10.0.0.1:7400"], "ca": "dev/ca.crt", "cert": "dev/tls.pem", "key": "dev/tls.pem"}
//	  }
//	}
//
// Paths are relative to the file's directory.
type File struct {
	Current  string             `json:"current,omitempty"`
	Clusters map[string]Context `json:"clusters"`
}

// Context is how to reach one cluster: its masters, and a certificate or a token.
type Context struct {
	Addresses []string `json:"addresses"`
	CA        string   `json:"ca,omitempty"`
	Cert      string   `json:"cert,omitempty"`
	Key       string   `json:"key,omitempty"`
	Token     string   `json:"token,omitempty"`
}

// ConfigPath is where the configuration file is; environ is os.Getenv or alike.
func ConfigPath(environ func(string) string) string {
	if p := environ("BERTH_CONFIG"); p != "" {
		return p
	}
	home := environ("HOME")
	if home == "" {
		home, _ = os.UserHomeDir() // empty: the working directory
	}
	return filepath.Join(home, ".berth", "config")
}

// ReadFile reads a configuration file; one that does not exist is empty.
func ReadFile(path string) (File, error) {
	f := File{Clusters: map[string]Context{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, object.Errorf(object.CodeInvalid, object.Ref{}, "the client's configuration: %w", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		e := object.Errorf(object.CodeInvalid, object.Ref{}, "the client's configuration %s cannot be read: %w", path, err)
		e.Hint = "Correct it, or move it away and let berth write a new one."
		return f, e
	}
	if f.Clusters == nil {
		f.Clusters = map[string]Context{}
	}
	return f, nil
}

// Write replaces the file at path in one step; it is for its owner only, for it
// may hold tokens.
func (f File) Write(path string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config.*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Load finds out which cluster to speak to, and as whom. name chooses a cluster
// of the configuration file; empty means BERTH_CLUSTER, then the file's current
// one. BERTH_ADDR (comma-separated) and BERTH_TOKEN override what the file says.
func Load(name string, environ func(string) string) (Config, error) {
	var c Config
	x, path, err := choose(name, environ)
	if err != nil {
		return c, err
	}
	c.Addrs, c.Token = x.Addresses, x.Token
	if a := environ("BERTH_ADDR"); a != "" {
		c.Addrs = Addresses(a)
	}
	if t := environ("BERTH_TOKEN"); t != "" {
		c.Token = t
		return c, nil // whoever sets a token means to be its bearer, not the file's certificate
	}
	if x.Cert != "" {
		c.TLS, err = x.tls(filepath.Dir(path))
	}
	return c, err
}

// Addresses are those of BERTH_ADDR: with commas or spaces between.
func Addresses(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// choose finds a cluster in the configuration file, whose path it returns, too.
func choose(name string, environ func(string) string) (Context, string, error) {
	path := ConfigPath(environ)
	f, err := ReadFile(path)
	if err != nil {
		return Context{}, path, err
	}
	chosen := name
	if chosen == "" {
		chosen = environ("BERTH_CLUSTER")
	}
	if chosen == "" {
		chosen = f.Current
	}
	x, known := f.Clusters[chosen]
	if chosen != "" && !known {
		names := slices.Sorted(maps.Keys(f.Clusters))
		e := object.Errorf(object.CodeNotFound, object.Ref{}, "%s has no cluster %q", path, chosen)
		e.Hint = object.DidYouMean(chosen, names)
		if e.Hint == "" && len(names) > 0 {
			e.Hint = "It has " + strings.Join(names, ", ") + "."
		}
		return x, path, e
	}
	return x, path, nil
}

// tls is the TLS configuration of the context's files.
func (x Context) tls(dir string) (*tls.Config, error) {
	key := x.Key
	if key == "" {
		key = x.Cert
	}
	var b [3][]byte
	for i, p := range []string{x.Cert, key, x.CA} {
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		var err error
		if b[i], err = os.ReadFile(p); err != nil {
			e := object.Errorf(object.CodeInvalid, object.Ref{}, "the client's certificate: %w", err)
			e.Hint = "Correct the paths in the client's configuration, or join again."
			return nil, e
		}
	}
	id, err := pki.NewIdentity(b[0], b[1], b[2])
	if err != nil {
		return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "the client's certificate: %w", fmt.Errorf("%s: %w", x.Cert, err))
	}
	return id.ClientTLS(pki.RoleMaster, ""), nil
}
