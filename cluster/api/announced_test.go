package api

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// A body arrives whole, whatever was announced; nobody is believed beyond a limit.
func TestAnnouncedBodies(t *testing.T) {
	text := strings.Repeat("0123456789", 1000)
	for _, size := range []int64{-1, 0, 1, int64(len(text)), 1 << 40} {
		var b bytes.Buffer
		n, err := io.Copy(&b, announced{io.NopCloser(strings.NewReader(text)), size})
		if err != nil || n != int64(len(text)) || b.String() != text {
			t.Errorf("announced %d: %d bytes, %v", size, n, err)
		}
		if b.Cap() > 2*mostAnnounced {
			t.Errorf("announced %d: room for %d", size, b.Cap())
		}
		if size == int64(len(text)) && b.Cap() > len(text)+4096 {
			t.Errorf("a buffer of %d for %d bytes: it grew on the way", b.Cap(), len(text))
		}
	}
	var plain strings.Builder // no buffer
	if _, err := io.Copy(&plain, announced{io.NopCloser(strings.NewReader(text)), 5}); err != nil || plain.String() != text {
		t.Errorf("%d bytes, %v", plain.Len(), err)
	}
}
