package state

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/berthdev/berth/cluster/object"
)

// The encoding of a state is a stream of frames, so that neither side ever holds
// more than a window of it:
//
//	"berth-state" version(1 byte)
//	frame: index and the number of objects of each kind
//	frame: up to chunkSize objects of one kind, in the order of List   (repeated)
//	frame: empty, the end
//
// A frame is length (uvarint), CRC-32C (4 bytes, little endian), payload. Equal
// states give equal bytes.
const (
	magic       = "berth-state"
	formatV1    = 1
	chunkSize   = 256      // objects in a frame
	windowSize  = 32       // frames encoded or decoded at a time
	maxFrame    = 1 << 30  // a longer frame is damage, not data
	allocations = 64 << 10 // a damaged length must not cost memory before data has come
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

type header struct {
	Index uint64      `json:"index"`
	Kinds []kindCount `json:"kinds"`
}

type kindCount struct {
	Kind  object.Kind `json:"kind"`
	Count int         `json:"count"`
}

// Encode writes the snapshot. Errors are those of w.
func Encode(w io.Writer, v *Snapshot, each object.Each) error {
	bw := bufio.NewWriterSize(w, 256<<10)
	bw.WriteString(magic)
	bw.WriteByte(formatV1)
	h := header{Index: v.index}
	for _, k := range object.Kinds() {
		if n := v.Count(k.Kind); n > 0 {
			h.Kinds = append(h.Kinds, kindCount{k.Kind, n})
		}
	}
	b, err := object.Encode(h)
	if err != nil {
		return err
	}
	if err := writeFrame(bw, b); err != nil {
		return err
	}
	window := make([]chunk, 0, windowSize)
	flush := func() error {
		out := make([][]byte, len(window))
		err := each(len(window), func(i int) (err error) { out[i], err = window[i].encode(); return err })
		if err != nil {
			return err
		}
		for _, b := range out {
			if err := writeFrame(bw, b); err != nil {
				return err
			}
		}
		window = window[:0]
		return nil
	}
	for _, k := range h.Kinds {
		c := chunk{kind: k.Kind}
		for o := range v.List(k.Kind) {
			if c.objects = append(c.objects, o); len(c.objects) < chunkSize {
				continue
			}
			if window = append(window, c); len(window) == windowSize {
				if err := flush(); err != nil {
					return err
				}
			}
			c = chunk{kind: k.Kind}
		}
		if len(c.objects) > 0 {
			window = append(window, c)
		}
		if err := flush(); err != nil {
			return err
		}
	}
	if err := writeFrame(bw, nil); err != nil {
		return err
	}
	return bw.Flush()
}

// Decode reads what Encode wrote and checks it; the error says what is damaged.
// It reads no further than the end of the state if r is a *bufio.Reader.
func Decode(r io.Reader, each object.Each) (*Store, error) {
	br, ok := r.(*bufio.Reader)
	if !ok {
		br = bufio.NewReaderSize(r, 256<<10)
	}
	head := make([]byte, len(magic)+1)
	if _, err := io.ReadFull(br, head); err != nil || string(head[:len(magic)]) != magic {
		return nil, errors.New("not a state of Berth: the first bytes are wrong")
	}
	if v := head[len(magic)]; v != formatV1 {
		return nil, fmt.Errorf("the state has format %d and this version of Berth knows only %d: use a newer one", v, formatV1)
	}
	b, err := readFrame(br)
	if err != nil {
		return nil, fmt.Errorf("the state's header: %w", err)
	}
	var h header
	if err := object.Decode(b, &h); err != nil {
		return nil, fmt.Errorf("the state's header: %w", err)
	}
	s := newStore(h.Index)
	for done := false; !done; {
		var frames [][]byte
		for len(frames) < windowSize {
			b, err := readFrame(br)
			if err != nil {
				return nil, fmt.Errorf("the state is damaged: %w", err)
			}
			if len(b) == 0 {
				done = true
				break
			}
			frames = append(frames, b)
		}
		chunks := make([]chunk, len(frames))
		err := each(len(frames), func(i int) (err error) { chunks[i], err = decodeChunk(frames[i]); return err })
		if err != nil {
			return nil, fmt.Errorf("the state is damaged: %w", err)
		}
		for _, c := range chunks {
			s.load(c)
		}
	}
	for _, k := range h.Kinds {
		if n := s.live.Count(k.Kind); n != k.Count {
			return nil, fmt.Errorf("the state is damaged: %d objects of kind %s instead of %d", n, k.Kind, k.Count)
		}
	}
	s.publish()
	return s, nil
}

// load adds a chunk's objects; they come in the order of their keys.
func (s *Store) load(c chunk) {
	i := kindOrder[c.kind]
	s.dirty.tables[i] = true
	for _, o := range c.objects {
		r := o.Ref()
		s.live.tables[i].Load(entry{key: key{r.Namespace, r.Name}, obj: o})
		s.relink(r, nil, o)
	}
}

// chunk is the objects of one frame.
type chunk struct {
	kind    object.Kind
	objects []object.Object
}

// encode is kind, 0, then each object as length (uvarint) and canonical CBOR.
func (c chunk) encode() ([]byte, error) {
	out := make([]byte, 0, 512*len(c.objects))
	out = append(out, c.kind...)
	out = append(out, 0)
	for _, o := range c.objects {
		b, err := object.Encode(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Ref(), err)
		}
		out = binary.AppendUvarint(out, uint64(len(b)))
		out = append(out, b...)
	}
	return out, nil
}

func decodeChunk(b []byte) (chunk, error) {
	name, rest, ok := bytes.Cut(b, []byte{0})
	c := chunk{kind: object.Kind(name)}
	info, known := object.Info(c.kind)
	if !ok || !known {
		return c, fmt.Errorf("there is no kind %q; was it written by a newer version of Berth?", name)
	}
	for len(rest) > 0 {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > uint64(len(rest)-used) {
			return c, fmt.Errorf("an object of kind %s is cut short", c.kind)
		}
		o := info.New()
		if err := object.Decode(rest[used:used+int(n)], o); err != nil {
			return c, fmt.Errorf("an object of kind %s: %w", c.kind, err)
		}
		if o.Ref().Kind != c.kind {
			return c, fmt.Errorf("an object of kind %s calls itself %s", c.kind, o.Ref())
		}
		c.objects = append(c.objects, o)
		rest = rest[used+int(n):]
	}
	return c, nil
}

func writeFrame(w *bufio.Writer, b []byte) error {
	head := binary.AppendUvarint(make([]byte, 0, 16), uint64(len(b)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(b, crcTable))
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

func readFrame(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, short(err)
	}
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes is not possible", n)
	}
	var sum [4]byte
	if _, err := io.ReadFull(r, sum[:]); err != nil {
		return nil, short(err)
	}
	buf := bytes.NewBuffer(make([]byte, 0, min(n, allocations)))
	if _, err := io.CopyN(buf, r, int64(n)); err != nil {
		return nil, short(err)
	}
	if crc32.Checksum(buf.Bytes(), crcTable) != binary.LittleEndian.Uint32(sum[:]) {
		return nil, errors.New("a checksum is wrong")
	}
	return buf.Bytes(), nil
}

func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is cut short")
	}
	return err
}
