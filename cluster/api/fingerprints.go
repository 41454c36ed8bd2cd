package api

import (
	"sync"

	"github.com/berthdev/berth/cluster/object"
)

// fingerprints remembers those of objects that were asked for, by what never names
// two states of an object: its birth and its version. Making them is most of what a
// plan of ten thousand objects costs the masters when hardly one of them changes.
type fingerprints struct {
	mu    sync.Mutex
	known map[object.Ref]fingerprint
}

type fingerprint struct {
	created, version uint64
	text             string
}

// fingerprintsKept bounds the memory, about 200 bytes each; more begin anew.
const fingerprintsKept = 100_000

// of is object.Fingerprint.
func (f *fingerprints) of(o object.Object) string {
	m := o.Head()
	f.mu.Lock()
	have, ok := f.known[o.Ref()]
	f.mu.Unlock()
	if ok && have.created == m.Created && have.version == m.Version {
		return have.text
	}
	text := object.Fingerprint(o)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil || len(f.known) >= fingerprintsKept {
		f.known = map[object.Ref]fingerprint{}
	}
	f.known[o.Ref()] = fingerprint{m.Created, m.Version, text}
	return text
}
