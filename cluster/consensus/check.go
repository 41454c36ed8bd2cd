package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
)

// bbolt maps its file into memory and panics, or takes a SIGBUS, on a page that
// is not what it should be, partly in goroutines of its own. So before bbolt
// opens the file, checkFile walks its pages by plain reads: the two meta pages,
// then every page that the tree of the newer one reaches.
//
// The layout is bbolt's file format version 2, which has not changed since 2014.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltBranch     = 0x01
	boltLeaf       = 0x02
	boltPageHeader = 16
	boltElement    = 16
	boltMetaSize   = 64
	boltIsBucket   = 1
	boltFirstPages = 4 // of a file that was made and never written to
)

type boltFile struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	high     uint64 // pages of the file in use
	seen     map[uint64]bool
}

// checkFile reports whether the file holds anything; one that does not exist, is
// empty or has just been made does not.
func checkFile(path string) (used bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	b := &boltFile{r: f, size: info.Size(), seen: map[uint64]bool{}}
	root, err := b.meta()
	if err != nil {
		return false, err
	}
	if need := int64(b.high) * b.pageSize; need > b.size {
		return false, fmt.Errorf("it is cut short: %d bytes of %d", b.size, need)
	}
	return b.high > boltFirstPages, b.page(root, 0)
}

// meta reads the newer valid meta page and gives the root page.
func (b *boltFile) meta() (root uint64, err error) {
	found, newest := false, uint64(0)
	try := func(at int64) {
		buf := make([]byte, boltPageHeader+boltMetaSize)
		if _, err := b.r.ReadAt(buf, at); err != nil {
			return
		}
		m := buf[boltPageHeader:]
		if binary.NativeEndian.Uint32(m) != boltMagic || binary.NativeEndian.Uint32(m[4:]) != boltVersion {
			return
		}
		sum := fnv.New64a()
		sum.Write(m[:boltMetaSize-8])
		if sum.Sum64() != binary.NativeEndian.Uint64(m[boltMetaSize-8:]) {
			return
		}
		if txid := binary.NativeEndian.Uint64(m[48:]); !found || txid > newest {
			found, newest = true, txid
			b.pageSize = int64(binary.NativeEndian.Uint32(m[8:]))
			root, b.high = binary.NativeEndian.Uint64(m[16:]), binary.NativeEndian.Uint64(m[40:])
		}
	}
	try(0)
	if found {
		try(b.pageSize)
	} else {
		for size := int64(1024); size <= 64<<10; size *= 2 { // the first page is broken: look for the second
			try(size)
		}
	}
	if !found || b.pageSize < 512 {
		return 0, errors.New("neither of its two head pages is valid; it is not a Raft log or its beginning was overwritten")
	}
	return root, nil
}

// page checks a page and what it leads to.
func (b *boltFile) page(id uint64, depth int) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("page %d (byte %d): %s", id, int64(id)*b.pageSize, fmt.Sprintf(format, args...))
	}
	switch {
	case id < 2 || id >= b.high:
		return bad("is outside of the %d pages in use", b.high)
	case b.seen[id]:
		return bad("is referred to twice")
	case depth > 64:
		return bad("the tree has no end")
	}
	b.seen[id] = true
	head := make([]byte, boltPageHeader)
	if _, err := b.r.ReadAt(head, int64(id)*b.pageSize); err != nil {
		return bad("cannot be read: %v", err)
	}
	own, flags := binary.NativeEndian.Uint64(head), binary.NativeEndian.Uint16(head[8:])
	count, overflow := int(binary.NativeEndian.Uint16(head[10:])), binary.NativeEndian.Uint32(head[12:])
	if own != id {
		return bad("calls itself page %d", own)
	}
	if id+uint64(overflow) >= b.high {
		return bad("reaches beyond the pages in use")
	}
	buf := make([]byte, (int64(overflow)+1)*b.pageSize)
	if _, err := b.r.ReadAt(buf, int64(id)*b.pageSize); err != nil {
		return bad("cannot be read: %v", err)
	}
	return b.elements(buf, flags, count, depth, bad)
}

// elements checks the elements of a page, or of a bucket that is stored inline.
func (b *boltFile) elements(buf []byte, flags uint16, count, depth int, bad func(string, ...any) error) error {
	if flags != boltBranch && flags != boltLeaf {
		return bad("has the unknown type %#x", flags)
	}
	if boltPageHeader+count*boltElement > len(buf) {
		return bad("has %d elements, more than fit", count)
	}
	var last []byte
	for i := range count {
		at := boltPageHeader + i*boltElement
		e := buf[at : at+boltElement]
		var pos, ksize, vsize uint64
		if flags == boltBranch {
			pos, ksize = uint64(binary.NativeEndian.Uint32(e)), uint64(binary.NativeEndian.Uint32(e[4:]))
		} else {
			pos, ksize, vsize = uint64(binary.NativeEndian.Uint32(e[4:])), uint64(binary.NativeEndian.Uint32(e[8:])), uint64(binary.NativeEndian.Uint32(e[12:]))
		}
		start := uint64(at) + pos
		if start+ksize+vsize > uint64(len(buf)) {
			return bad("element %d reaches beyond the page", i)
		}
		k, v := buf[start:start+ksize], buf[start+ksize:start+ksize+vsize]
		if i > 0 && string(k) <= string(last) {
			return bad("element %d is out of order", i)
		}
		last = k
		switch {
		case flags == boltBranch:
			if err := b.page(binary.NativeEndian.Uint64(e[8:]), depth+1); err != nil {
				return err
			}
		case binary.NativeEndian.Uint32(e)&boltIsBucket != 0:
			if err := b.bucket(v, depth, bad); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *boltFile) bucket(v []byte, depth int, bad func(string, ...any) error) error {
	if len(v) < 16 {
		return bad("a bucket is cut short")
	}
	if root := binary.NativeEndian.Uint64(v); root != 0 {
		return b.page(root, depth+1)
	}
	inline := v[16:]
	if len(inline) < boltPageHeader {
		return bad("an inline bucket is cut short")
	}
	return b.elements(inline, binary.NativeEndian.Uint16(inline[8:]), int(binary.NativeEndian.Uint16(inline[10:])), depth+1, bad)
}
