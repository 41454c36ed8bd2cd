package lsp

import (
	"bytes"
	"unicode/utf8"
)

// Editors count lines from 0, and in a line the 16-bit units of UTF-16; texts here
// are bytes of UTF-8.

type position struct {
	Line      int `json:"line"`
	Character int `json:"character"`
}

type textRange struct {
	Start position `json:"start"`
	End   position `json:"end"`
}

// offset is the byte that a position means; what is beyond a line's or the text's end
// means that end, as the protocol has it.
func offset(src []byte, p position) int {
	at := 0
	for range p.Line {
		i := bytes.IndexByte(src[at:], '\n')
		if i < 0 {
			return len(src)
		}
		at += i + 1
	}
	for units := 0; units < p.Character && at < len(src) && src[at] != '\n' && !bytes.HasPrefix(src[at:], []byte("\r\n")); {
		r, size := utf8.DecodeRune(src[at:])
		if units += utf16Len(r); units > p.Character {
			break // in the middle of a pair: before it
		}
		at += size
	}
	return at
}

func utf16Len(r rune) int {
	if r > 0xffff {
		return 2
	}
	return 1
}

// positionOf is the inverse of offset.
func positionOf(src []byte, at int) position {
	at = max(0, min(at, len(src)))
	p := position{Line: bytes.Count(src[:at], []byte{'\n'})}
	for line := src[bytes.LastIndexByte(src[:at], '\n')+1 : at]; len(line) > 0; {
		r, size := utf8.DecodeRune(line)
		p.Character += utf16Len(r)
		line = line[size:]
	}
	return p
}

func rangeIn(src []byte, s span) textRange {
	return textRange{positionOf(src, s.start), positionOf(src, s.end)}
}
