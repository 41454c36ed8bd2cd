package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// Token lets its bearer in: a public id, a secret, and the hash of the public key
// of the authority that the other side must prove to have.
type Token struct {
	ID     string
	Secret string
	CAHash string
}

// NewToken makes a random token that pins an authority (see CA.Hash).
func NewToken(caHash string) Token {
	b := make([]byte, 5+20)
	rand.Read(b) // never fails, see crypto/rand
	return Token{ID: hex.EncodeToString(b[:5]), Secret: hex.EncodeToString(b[5:]), CAHash: caHash}
}

// String is id.secret.hash: the token itself, not for logs.
func (t Token) String() string { return t.ID + "." + t.Secret + "." + t.CAHash }

// Digest is all that the masters keep of the secret.
func (t Token) Digest() string {
	sum := sha256.Sum256([]byte(t.Secret))
	return hex.EncodeToString(sum[:])
}

// ParseToken reads what String wrote.
func ParseToken(s string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != 3 {
		return Token{}, errors.New("not a token; it has the form id.secret.hash, as \"berth token create\" prints it")
	}
	for i, want := range []int{10, 40, 64} {
		if b, err := hex.DecodeString(parts[i]); err != nil || len(b)*2 != want {
			return Token{}, errors.New("not a token: it is cut off or mistyped; copy the whole of what \"berth token create\" printed")
		}
	}
	return Token{ID: parts[0], Secret: parts[1], CAHash: parts[2]}, nil
}
