package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// A sealed record is
//
//	version (1) | key id (4) | sealed data key (12 nonce + 32 + 16 tag) | sealed value (12 nonce + n + 16 tag)
const (
	version     = 1
	idSize      = 4
	dataKeySize = 32
	overhead    = 12 + 16
	headSize    = 1 + idSize + overhead + dataKeySize
)

// Seal encrypts one value of a secret and gives it its digest. A content, which
// copies the values of a secret, copies them sealed: they stay bound to the
// secret (ContentSpec.Of).
func (k *Keyring) Seal(secret object.Ref, key, plaintext string) (object.Sensitive, error) {
	k.mu.RLock()
	primary, kek := k.ring.Primary, k.keys[k.ring.Primary]
	k.mu.RUnlock()
	id, err := hex.DecodeString(primary)
	if err != nil {
		return object.Sensitive{}, err
	}
	dataKey := random(dataKeySize)
	dek, err := newAEAD(dataKey)
	if err != nil {
		return object.Sensitive{}, err
	}
	bound := binding(secret, key)
	record := slices.Grow([]byte{version}, headSize+overhead+len(plaintext))
	record = append(record, id...)
	record = kek.Seal(record, nil, dataKey, bound)
	record = dek.Seal(record, nil, []byte(plaintext), bound)
	return object.Sensitive{Sealed: record, Digest: k.Digest(plaintext)}, nil
}

// Reveal decrypts what Seal made for the same secret and key. CodeInvalid: it was
// made for another place or has been tampered with. CodeUnavailable: by a key
// that this master's keyring lacks.
func (k *Keyring) Reveal(secret object.Ref, key string, s object.Sensitive) (string, error) {
	r := s.Sealed
	if len(r) < headSize+overhead || r[0] != version {
		return "", object.Errorf(object.CodeInvalid, secret, "the sealed value of key %q is cut off or of an unknown version", key)
	}
	id := hex.EncodeToString(r[1 : 1+idSize])
	k.mu.RLock()
	kek := k.keys[id]
	k.mu.RUnlock()
	if kek == nil {
		e := object.Errorf(object.CodeUnavailable, secret, "the value of key %q is sealed by key %s, which this master's keyring lacks", key, id)
		e.Hint = "Copy keyring.json from another master and restart this one."
		return "", e
	}
	bound := binding(secret, key)
	dataKey, err := kek.Open(nil, nil, r[1+idSize:headSize], bound)
	if err == nil {
		var dek cipher.AEAD
		if dek, err = newAEAD(dataKey); err == nil {
			var plain []byte
			if plain, err = dek.Open(nil, nil, r[headSize:], bound); err == nil {
				return string(plain), nil
			}
		}
	}
	return "", object.Errorf(object.CodeInvalid, secret, "the sealed value of key %q does not open: it was made for another secret or key, or has been changed", key)
}

// Digest is the keyed digest of a value: equal values have equal digests, and
// without the keyring nobody can check a guess.
func (k *Keyring) Digest(plaintext string) string {
	return hex.EncodeToString(mac(k.digest, []byte(plaintext))[:16])
}

// Sign is the cluster's seal over what is written (see object.Plan.WriteSealing). The
// error is the writer's own.
func (k *Keyring) Sign(write func(io.Writer) error) (string, error) {
	h := hmac.New(sha256.New, k.sign)
	err := write(h)
	return hex.EncodeToString(h.Sum(nil)), err
}

// Verify reports whether Sign of any master of this cluster made the seal.
func (k *Keyring) Verify(write func(io.Writer) error, seal string) (bool, error) {
	want, err := k.Sign(write)
	return err == nil && hmac.Equal([]byte(seal), []byte(want)), err
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)
}

// binding is the associated data: a ciphertext opens only where it belongs.
func binding(secret object.Ref, key string) []byte {
	return []byte("berth sensitive value\x00" + secret.String() + "\x00" + key)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(b)
}
