package client

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// Pin is what pins the cluster that Load would choose: with it and an address, a
// machine that knows nothing else knows whom it speaks to.
func Pin(name string, environ func(string) string) (string, error) {
	x, path, err := choose(name, environ)
	if err != nil {
		return "", err
	}
	token := x.Token
	if t := environ("BERTH_TOKEN"); t != "" {
		token = t
	}
	if token != "" {
		t, err := pki.ParseToken(token)
		if err != nil {
			return "", object.Errorf(object.CodeInvalid, object.Ref{}, "%w", err)
		}
		return t.CAHash, nil
	}
	if x.CA == "" {
		return "", &object.Error{Code: object.CodeInvalid, Message: "no cluster is known here", Hint: "Choose one of " + path + " with --cluster, or set BERTH_TOKEN."}
	}
	file := x.CA
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(path), file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return "", object.Errorf(object.CodeInvalid, object.Ref{}, "%s holds no certificate", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", object.Errorf(object.CodeInvalid, object.Ref{}, "%s: %w", file, err)
	}
	return pki.Hash(cert), nil
}
