package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// A Raft entry is version (1 byte), what (1 byte), CRC-32C of the rest (4 bytes,
// little endian), payload. The checksum tells damage of the log file from data.
const (
	entryVersion = 1
	entryHeader  = 6

	whatBatch  = 'b' // changesets, each as length (uvarint) and canonical CBOR
	whatPart   = 's' // a part of a large changeset: id, number (uvarint), bytes
	whatCommit = 'c' // all parts are there: id, number of parts (uvarint)
	whatDrop   = 'd' // they will not be used: id

	stageIDSize = 16
	maxStaged   = 256 << 20 // bytes of one changeset
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

type stageID [stageIDSize]byte

func newEntry(what byte, size int) []byte {
	b := make([]byte, entryHeader, entryHeader+size)
	b[0], b[1] = entryVersion, what
	return b
}

func seal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[2:], crc32.Checksum(b[entryHeader:], crcTable))
	return b
}

func batchEntry(changesets [][]byte) []byte {
	size := 0
	for _, c := range changesets {
		size += len(c) + binary.MaxVarintLen32
	}
	b := newEntry(whatBatch, size)
	for _, c := range changesets {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return seal(b)
}

func partEntry(id stageID, number int, data []byte) []byte {
	b := newEntry(whatPart, stageIDSize+binary.MaxVarintLen32+len(data))
	b = append(b, id[:]...)
	b = binary.AppendUvarint(b, uint64(number))
	return seal(append(b, data...))
}

func stageEntry(what byte, id stageID, parts int) []byte {
	b := newEntry(what, stageIDSize+binary.MaxVarintLen32)
	b = append(b, id[:]...)
	return seal(binary.AppendUvarint(b, uint64(parts)))
}

// openEntry checks an entry and gives what it is and its payload.
func openEntry(b []byte) (what byte, payload []byte, err error) {
	if len(b) < entryHeader {
		return 0, nil, errors.New("the entry is cut short")
	}
	if b[0] != entryVersion {
		return 0, nil, fmt.Errorf("the entry has format %d and this version of Berth knows only %d: use a newer one", b[0], entryVersion)
	}
	if crc32.Checksum(b[entryHeader:], crcTable) != binary.LittleEndian.Uint32(b[2:]) {
		return 0, nil, errors.New("the entry's checksum is wrong")
	}
	return b[1], b[entryHeader:], nil
}

func splitBatch(payload []byte) ([][]byte, error) {
	var out [][]byte
	for len(payload) > 0 {
		n, used := binary.Uvarint(payload)
		if used <= 0 || n > uint64(len(payload)-used) {
			return nil, errors.New("a changeset is cut short")
		}
		out = append(out, payload[used:used+int(n)])
		payload = payload[used+int(n):]
	}
	return out, nil
}

func splitStage(payload []byte) (id stageID, number int, rest []byte, err error) {
	if len(payload) < stageIDSize {
		return id, 0, nil, errors.New("a part is cut short")
	}
	copy(id[:], payload)
	n, used := binary.Uvarint(payload[stageIDSize:])
	if used <= 0 || n > 1<<20 {
		return id, 0, nil, errors.New("a part is cut short")
	}
	return id, int(n), payload[stageIDSize+used:], nil
}

// encodeChangeset is the changeset without what Apply does not read: the status
// in a change of the spec, the spec in a change of the status, and the parts of
// Meta that Apply sets itself. A batch of bindings shrinks to a third.
func encodeChangeset(c *object.Changeset) ([]byte, error) {
	slim := *c
	slim.Changes = make([]object.Change, len(c.Changes))
	for i, x := range c.Changes {
		if o := x.Object.Object; o != nil {
			x.Object.Object = slimObject(o, x.Op, x.Part)
		}
		slim.Changes[i] = x
	}
	return object.Encode(slim)
}

func slimObject(o object.Object, op object.Op, part object.Part) object.Object {
	o = o.Clone()
	m := o.Head()
	if op == object.OpUpdate && part == object.PartStatus {
		*m = object.Meta{Kind: m.Kind, Namespace: m.Namespace, Name: m.Name}
		reflect.ValueOf(o.SpecPtr()).Elem().SetZero()
		return o
	}
	if status := o.StatusPtr(); op == object.OpUpdate && status != nil {
		reflect.ValueOf(status).Elem().SetZero()
	}
	m.Version, m.StatusVersion, m.Created = 0, 0, 0
	m.CreatedAt, m.ChangedAt = time.Time{}, time.Time{}
	m.ChangedBy, m.ChangedWhy = "", ""
	return o
}
