package hcl

import (
	"encoding"
	"reflect"

	"github.com/berthdev/berth/cluster/object"
)

// literal is a reader that stands at the start of a literal that has been read once.
func (a *attribute) literal() *quick {
	return &quick{src: a.src, s: a.src.text[:a.exprAt.end], i: int(a.exprAt.start)}
}

// direct puts a literal into a field straight from the text, without a value
// between: of a large configuration nearly every attribute goes this way. False
// means that the general way has to do it, or to say what is wrong; what it finds in
// the field does not matter then. TestDirectAgrees holds the two against each other.
func direct(dst reflect.Value, f form, a *attribute) bool {
	q := a.literal()
	c, word := q.peek(), a.src.text[a.exprAt.start:a.exprAt.end]
	switch {
	case f == formBool && (word == "true" || word == "false"):
		dst.SetBool(word == "true")
		return true
	case f == formInt && digit(c):
		n, ok := small(word)
		if ok {
			dst.SetInt(n)
		}
		return ok
	case f == formUnit && digit(c):
		n, ok := small(word)
		to, takes := dst.Addr().Interface().(object.NumberSetter)
		return ok && takes && to.SetNumber(float64(n)) == nil
	case c == '"' && (f == formString || f == formText):
		s, ok := q.plain()
		if ok {
			dst.SetString(s)
		}
		return ok
	case c == '"' && f == formUnit:
		s, ok := q.plain()
		to, takes := dst.Addr().Interface().(encoding.TextUnmarshaler)
		return ok && takes && to.UnmarshalText([]byte(s)) == nil
	case c == '[' && f == formSlice:
		to, takes := dst.Addr().Interface().(*[]string)
		return takes && q.texts(to)
	case c == '{' && f == formMap:
		switch to := dst.Addr().Interface().(type) {
		case *map[string]string:
			return textsByKey(q, to)
		case *map[string]object.Text:
			return textsByKey(q, to)
		}
	}
	return false
}

// texts reads a list of plain texts and nothing else. As the list has been read once,
// what stands between them need not be looked at closely.
func (q *quick) texts(to *[]string) bool {
	q.i++
	var list []string
	for {
		switch q.between(); q.peek() {
		case ']':
			if list != nil {
				*to = list
			}
			return true
		case '"':
			s, ok := q.plain()
			if !ok {
				return false
			}
			list = append(list, s)
		default:
			return false
		}
	}
}

// textsByKey reads an object of plain texts and nothing else.
func textsByKey[T ~string](q *quick, to *map[string]T) bool {
	q.i++
	var m map[string]T
	for {
		q.between()
		if q.peek() == '}' {
			if m != nil {
				*to = m
			}
			return true
		}
		key, ok := q.key()
		if !ok {
			return false
		}
		q.blank(false)
		q.i++ // = or :
		q.blank(false)
		if q.peek() != '"' {
			return false
		}
		s, ok := q.plain()
		if !ok {
			return false
		}
		if m == nil {
			m = map[string]T{}
		}
		m[key] = T(s)
	}
}

// between goes on to the next item of a list or object.
func (q *quick) between() {
	for q.blank(true); q.peek() == ','; q.blank(true) {
		q.i++
	}
}
