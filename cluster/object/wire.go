package object

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// PlanMediaType is the body of a plan or an apply request as EncodePlan and
// EncodeApply write it. Berth's own clients send it: ten thousand objects are
// written and read several times faster than as JSON, which masters take as well.
const PlanMediaType = "application/vnd.berth.plan+cbor"

// wireApply is an ApplyRequest, or with a plan only what is planned, between a
// client and the masters. What there is one of, and values of no fixed type (outputs,
// fields), are JSON, so that they are what a saved plan would read back.
type wireApply struct {
	_       struct{}          `cbor:",toarray"`
	Request []byte            // JSON of the ApplyRequest, without its changes and what it expects
	Expect  []cbor.RawMessage // of wireExpectation
	Changes []cbor.RawMessage // of wireChange
	Before  []cbor.RawMessage
	After   []cbor.RawMessage
}

// lists are the parts of which there are many.
func (w *wireApply) lists() [4]*[]cbor.RawMessage {
	return [4]*[]cbor.RawMessage{&w.Expect, &w.Changes, &w.Before, &w.After}
}

type wireExpectation struct {
	_       struct{} `cbor:",toarray"`
	Ref     wireRef
	Version uint64
}

// wireChange is a PlannedChange without its objects.
type wireChange struct {
	_        struct{} `cbor:",toarray"`
	Ref      wireRef
	Address  string
	From     wireRef
	Previous string
	Actions  []string
	Reason   string
	Wave     int
	Fields   []byte // JSON, or empty
	Hidden   int
}

type wireRef struct {
	_                     struct{} `cbor:",toarray"`
	Kind, Namespace, Name string
}

func (r Ref) wire() wireRef {
	return wireRef{Kind: string(r.Kind), Namespace: r.Namespace, Name: r.Name}
}

func (r wireRef) ref() Ref { return Ref{Kind(r.Kind), r.Namespace, r.Name} }

// EncodePlan writes a plan as PlanMediaType.
func EncodePlan(p *Plan, each Each) ([]byte, error) {
	return EncodeApply(&ApplyRequest{Plan: *p}, each)
}

// EncodeApply writes an ApplyRequest as PlanMediaType.
func EncodeApply(r *ApplyRequest, each Each) ([]byte, error) {
	w, err := wireOf(r, each)
	if err != nil {
		return nil, err
	}
	return w.bytes(), nil
}

// Encoded says that an encoding is the canonical one of what a change makes of its
// object: the one that the object was claimed by.
func (p *Plan) Encoded(change int, encoding []byte) {
	if len(p.received) < len(p.Changes) {
		p.received = append(p.received, make([][2]received, len(p.Changes)-len(p.received))...)
	}
	p.received[change][1] = received{p.Changes[change].After.Object, encoding}
}

// wireOf encodes the parts of a request.
func wireOf(r *ApplyRequest, each Each) (*wireApply, error) {
	n := len(r.Plan.Changes)
	w := &wireApply{Expect: make([]cbor.RawMessage, len(r.Plan.Expect)), Changes: make([]cbor.RawMessage, n), Before: make([]cbor.RawMessage, n), After: make([]cbor.RawMessage, n)}
	err := each(len(w.Expect), func(i int) (err error) {
		x := r.Plan.Expect[i]
		w.Expect[i], err = canonical.Marshal(wireExpectation{Ref: x.Ref.wire(), Version: x.Version})
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(n, func(i int) (err error) {
		c := &r.Plan.Changes[i]
		if w.Changes[i], err = encodeChange(c); err != nil {
			return err
		}
		var came [2]received
		if i < len(r.Plan.received) {
			came = r.Plan.received[i]
		}
		if w.Before[i], err = encodeSide(c.Ref, c.Before, came[0]); err != nil {
			return err
		}
		w.After[i], err = encodeSide(c.Ref, c.After, came[1])
		return err
	})
	if err != nil {
		return nil, err
	}
	bare := *r
	bare.Plan.Changes, bare.Plan.Expect = r.Plan.Changes[:0], nil // no changes are null, or an empty list, as they were
	w.Request, err = json.Marshal(&bare)
	return w, err
}

// writeTo writes what canonical.Marshal would answer, part by part: the whole of it
// is as large as all objects together.
func (w *wireApply) writeTo(out io.Writer) error {
	var b [9]byte
	put := func(parts ...[]byte) (err error) {
		for _, p := range parts {
			if _, err = out.Write(p); err != nil {
				return err
			}
		}
		return nil
	}
	if err := put([]byte{arrayHead + 5}, appendHead(b[:0], bytesHead, len(w.Request)), w.Request); err != nil {
		return err
	}
	for _, list := range w.lists() {
		if err := put(appendHead(b[:0], arrayHead, len(*list))); err != nil {
			return err
		}
		for _, raw := range *list {
			if err := put(raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// bytes is all that writeTo writes, in one piece of the right size: a plan of ten
// thousand objects is ten megabytes, which are not to be copied as a buffer grows.
func (w *wireApply) bytes() []byte {
	size := 6*9 + len(w.Request)
	for _, list := range w.lists() {
		for _, raw := range *list {
			size += len(raw)
		}
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	_ = w.writeTo(b) // a buffer takes everything
	return b.Bytes()
}

// The heads of byte strings and arrays.
const (
	bytesHead = 0x40
	arrayHead = 0x80
)

// appendHead adds the head of n bytes or elements in its shortest form.
func appendHead(b []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), uint64(n))
}

// DecodePlan reads what EncodePlan writes.
func DecodePlan(b []byte, each Each) (*Plan, error) {
	r, err := DecodeApply(b, each)
	if err != nil {
		return nil, err
	}
	return &r.Plan, nil
}

// DecodeApply reads what EncodeApply writes and refuses unknown fields: what a
// newer client means by them must not be lost in silence.
func DecodeApply(b []byte, each Each) (*ApplyRequest, error) {
	var w wireApply
	if err := strict.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	r := new(ApplyRequest)
	if err := unmarshalStrictly(w.Request, r); err != nil {
		return nil, err
	}
	n := len(w.Changes)
	if len(w.Before) != n || len(w.After) != n || len(r.Plan.Changes) > 0 || len(r.Plan.Expect) > 0 {
		return nil, fmt.Errorf("%d changes, but %d and %d objects", n+len(r.Plan.Changes), len(w.Before), len(w.After))
	}
	if n > 0 {
		r.Plan.Changes = make([]PlannedChange, n)
	}
	if len(w.Expect) > 0 {
		r.Plan.Expect = make([]Expectation, len(w.Expect))
	}
	err := each(len(w.Expect), func(i int) error {
		var x wireExpectation
		err := strict.Unmarshal(w.Expect[i], &x)
		r.Plan.Expect[i] = Expectation{Ref: x.Ref.ref(), Version: x.Version}
		return err
	})
	if err != nil {
		return nil, err
	}
	r.Plan.received = make([][2]received, n)
	err = each(n, func(i int) (err error) {
		c := &r.Plan.Changes[i]
		if err := decodeChange(w.Changes[i], c); err != nil {
			return err
		}
		defer func() { r.Plan.received[i] = [2]received{{c.Before.Object, w.Before[i]}, {c.After.Object, w.After[i]}} }()
		if c.Before, err = decodeSide(c.Ref.Kind, w.Before[i]); err != nil {
			return fmt.Errorf("%s: %w", c.Ref, err)
		}
		if c.After, err = decodeSide(c.Ref.Kind, w.After[i]); err != nil {
			return fmt.Errorf("%s: %w", c.Ref, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// received is an object as it came, with the bytes that it was read from: a plan is
// sealed over these, and not over what they would be if they were written again. Who
// sends other than the canonical encoding gets a seal over that.
type received struct {
	object Object
	raw    cbor.RawMessage
}

func encodeSide(r Ref, a Any, came received) (cbor.RawMessage, error) {
	if a.IsZero() {
		return null, nil
	}
	if a.Object == came.object && a.Head().Kind == r.Kind { // objects do not change
		return came.raw, nil
	}
	if a.Head().Kind != r.Kind { // by which it is read
		return nil, Errorf(CodeInvalid, r, "the plan has another object for it: %s", a.Ref())
	}
	return canonical.Marshal(a.Object)
}

func decodeSide(k Kind, b cbor.RawMessage) (Any, error) {
	if len(b) == 1 && b[0] == null[0] {
		return Any{}, nil
	}
	o, err := New(k)
	if err != nil {
		return Any{}, err
	}
	return Any{Object: o}, strict.Unmarshal(b, o)
}

func encodeChange(c *PlannedChange) (cbor.RawMessage, error) {
	w := wireChange{Ref: c.Ref.wire(), Address: c.Address, From: c.From.wire(), Previous: c.Previous, Actions: c.Actions, Reason: c.Reason, Wave: c.Wave, Hidden: c.Hidden}
	if len(c.Fields) > 0 {
		var err error
		if w.Fields, err = json.Marshal(c.Fields); err != nil {
			return nil, err
		}
	}
	return canonical.Marshal(&w)
}

// decodeChange reads all of a change but its objects.
func decodeChange(b cbor.RawMessage, c *PlannedChange) error {
	var w wireChange
	if err := strict.Unmarshal(b, &w); err != nil {
		return err
	}
	*c = PlannedChange{Ref: w.Ref.ref(), Address: w.Address, From: w.From.ref(), Previous: w.Previous, Actions: w.Actions, Reason: w.Reason, Wave: w.Wave, Hidden: w.Hidden}
	if len(w.Fields) == 0 {
		return nil
	}
	return unmarshalStrictly(w.Fields, &c.Fields)
}

// WriteSealing writes what a seal is computed over: the plan with an empty Seal and no
// Explanation, as PlanMediaType. A plan that was written
// to a file and read back gives the same bytes.
func (p *Plan) WriteSealing(out io.Writer, each Each) error {
	c := *p
	c.Seal, c.Explanation = "", nil
	w, err := wireOf(&ApplyRequest{Plan: c}, each)
	if err != nil {
		return err
	}
	return w.writeTo(out)
}

// SealingBytes is all that WriteSealing writes.
func (p *Plan) SealingBytes(each Each) ([]byte, error) {
	var b bytes.Buffer
	err := p.WriteSealing(&b, each)
	return b.Bytes(), err
}
