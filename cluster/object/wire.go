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
// client and the masters. All but the objects is JSON, so that values of no fixed
// type (outputs, fields) are what a saved plan would read back.
type wireApply struct {
	_       struct{} `cbor:",toarray"`
	Request []byte   // JSON of the ApplyRequest, without the objects of its changes
	Before  []cbor.RawMessage
	After   []cbor.RawMessage
}

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
	return canonical.Marshal(w)
}

// wireOf encodes the parts of a request.
func wireOf(r *ApplyRequest, each Each) (*wireApply, error) {
	w := &wireApply{Before: make([]cbor.RawMessage, len(r.Plan.Changes)), After: make([]cbor.RawMessage, len(r.Plan.Changes))}
	err := each(len(r.Plan.Changes), func(i int) (err error) {
		c := &r.Plan.Changes[i]
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
	bare.Plan.Changes = withoutObjects(r.Plan.Changes)
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
	if err := put([]byte{arrayHead + 3}, appendHead(b[:0], bytesHead, len(w.Request)), w.Request); err != nil {
		return err
	}
	for _, list := range [][]cbor.RawMessage{w.Before, w.After} {
		if err := put(appendHead(b[:0], arrayHead, len(list))); err != nil {
			return err
		}
		for _, raw := range list {
			if err := put(raw); err != nil {
				return err
			}
		}
	}
	return nil
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
	changes := r.Plan.Changes
	if len(w.Before) != len(changes) || len(w.After) != len(changes) {
		return nil, fmt.Errorf("%d changes, but %d and %d objects", len(changes), len(w.Before), len(w.After))
	}
	r.Plan.received = make([][2]received, len(changes))
	err := each(len(changes), func(i int) (err error) {
		c := &changes[i]
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

func withoutObjects(changes []PlannedChange) []PlannedChange {
	if changes == nil {
		return nil
	}
	out := make([]PlannedChange, len(changes))
	for i, c := range changes {
		c.Before, c.After = Any{}, Any{}
		out[i] = c
	}
	return out
}

// WriteSealing writes what a seal is computed over: the plan with an empty Seal and no
// Explanation, its objects in the canonical encoding and all else as JSON. A plan that was written
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
