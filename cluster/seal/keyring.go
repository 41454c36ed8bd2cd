package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/durable"
	"github.com/berthdev/berth/cluster/object"
)

// file is the keyring's name in its directory.
const file = "keyring.json"

// Keyring holds the keys of one cluster: those that encrypt data keys, of which
// the primary seals and all open, and a root key for digests and signatures. It
// may be used by any number of goroutines.
type Keyring struct {
	dir string

	mu   sync.RWMutex
	ring ring
	keys map[string]cipher.AEAD // by id
	// derived from ring.Root, which never changes: digests have to stay comparable
	digest, sign []byte
}

// ring is the file's content.
type ring struct {
	Cluster string   `json:"cluster"`
	Root    []byte   `json:"root"`
	Primary string   `json:"primary"`
	Keys    []keyRow `json:"keys"`
}

type keyRow struct {
	ID      string    `json:"id"` // 8 hex digits
	Key     []byte    `json:"key"`
	Created time.Time `json:"created"`
}

// Generate makes the keyring of a new cluster and writes it to a directory that
// has none; with an empty directory it lives in memory only.
func Generate(dir string) (*Keyring, error) {
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			return nil, object.Errorf(object.CodeExists, object.Ref{}, "%s already holds a keyring; without it the cluster's secrets cannot be read, so it is not replaced", dir)
		}
	}
	row := newKey(time.Now())
	k := &Keyring{dir: dir}
	if err := k.load(ring{Cluster: hex.EncodeToString(random(8)), Root: random(32), Primary: row.ID, Keys: []keyRow{row}}); err != nil {
		return nil, err
	}
	return k, k.save()
}

// Open reads the keyring of a directory; fs.ErrNotExist means that there is none.
func Open(dir string) (*Keyring, error) {
	p := filepath.Join(dir, file)
	info, err := os.Stat(p)
	if err != nil {
		return nil, err
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "%s can be read by others (mode %04o): chmod 600 it, and rotate the keys if somebody may have", p, m)
	}
	b, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	k, err := parse(b)
	if err != nil {
		return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "%s: %w", p, err)
	}
	k.dir = dir
	return k, nil
}

// Import writes the keyring that another master exported to a directory.
func Import(dir string, exported []byte) (*Keyring, error) {
	k, err := parse(exported)
	if err != nil {
		return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "the keyring of the other master: %w", err)
	}
	k.dir = dir
	return k, k.save()
}

// Export is the whole keyring, for another master; it is as secret as all the
// secrets together.
func (k *Keyring) Export() ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return json.Marshal(k.ring)
}

// Cluster is the cluster's id, made with its first keyring.
func (k *Keyring) Cluster() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.ring.Cluster
}

// Primary is the id of the key that seals.
func (k *Keyring) Primary() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.ring.Primary
}

// Prepare adds a new key that opens but does not seal yet and returns its id. A
// rotation prepares a key on one master, merges its keyring into every other
// master's, and only then promotes it: no master ever meets a ciphertext that it
// cannot open.
func (k *Keyring) Prepare() (id string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	row := newKey(time.Now())
	next := k.ring
	next.Keys = append(slices.Clone(k.ring.Keys), row)
	return row.ID, k.replace(next)
}

// Promote makes a key the one that seals. What was sealed by others stays
// readable.
func (k *Keyring) Promote(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.keys[id]; !ok {
		return object.Errorf(object.CodeNotFound, object.Ref{}, "the keyring has no key %q", id)
	}
	next := k.ring
	next.Primary = id
	return k.replace(next)
}

// Merge takes over the keys of another master's exported keyring, and its choice
// of primary.
func (k *Keyring) Merge(exported []byte) error {
	o, err := parse(exported)
	if err != nil {
		return object.Errorf(object.CodeInvalid, object.Ref{}, "the keyring to merge: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if o.ring.Cluster != k.ring.Cluster || string(o.ring.Root) != string(k.ring.Root) {
		return object.Errorf(object.CodeInvalid, object.Ref{}, "the keyring to merge belongs to cluster %s, this one to %s", o.ring.Cluster, k.ring.Cluster)
	}
	next := k.ring
	next.Primary = o.ring.Primary
	next.Keys = slices.Clone(k.ring.Keys)
	for _, row := range o.ring.Keys {
		if _, ok := k.keys[row.ID]; !ok {
			next.Keys = append(next.Keys, row)
		}
	}
	return k.replace(next)
}

// replace writes a new ring, then uses it; the caller holds mu.
func (k *Keyring) replace(next ring) error {
	n := &Keyring{dir: k.dir}
	if err := n.load(next); err != nil {
		return err
	}
	if err := n.save(); err != nil {
		return err
	}
	k.ring, k.keys = n.ring, n.keys
	return nil
}

func parse(b []byte) (*Keyring, error) {
	var r ring
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("not a keyring: %w", err)
	}
	k := &Keyring{}
	return k, k.load(r)
}

func (k *Keyring) load(r ring) error {
	if r.Cluster == "" || len(r.Root) != 32 || len(r.Keys) == 0 {
		return fmt.Errorf("not a whole keyring; restore it from a copy or from another master")
	}
	keys := make(map[string]cipher.AEAD, len(r.Keys))
	for _, row := range r.Keys {
		if b, err := hex.DecodeString(row.ID); err != nil || len(b) != idSize {
			return fmt.Errorf("the key id %q is not of %d hex digits", row.ID, 2*idSize)
		}
		a, err := newAEAD(row.Key)
		if err != nil {
			return fmt.Errorf("key %s: %w", row.ID, err)
		}
		keys[row.ID] = a
	}
	if keys[r.Primary] == nil {
		return fmt.Errorf("the primary key %q is missing", r.Primary)
	}
	var err error
	if k.digest, err = hkdf.Key(sha256.New, r.Root, nil, "berth digest of a sensitive value", 32); err != nil {
		return err
	}
	if k.sign, err = hkdf.Key(sha256.New, r.Root, nil, "berth seal of a plan", 32); err != nil {
		return err
	}
	k.ring, k.keys = r, keys
	return nil
}

// save replaces the file; it does nothing for a keyring in memory.
func (k *Keyring) save() error {
	if k.dir == "" {
		return nil
	}
	b, err := json.MarshalIndent(k.ring, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	return durable.Replace(filepath.Join(k.dir, file), b)
}

func newKey(now time.Time) keyRow {
	return keyRow{ID: hex.EncodeToString(random(idSize)), Key: random(32), Created: now.UTC()}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails, see crypto/rand
	return b
}
