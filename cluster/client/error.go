package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// codes is the inverse of the table in api/error.go, for answers whose body is
// not Berth's (a proxy in between). Where two codes share a status it has the
// one whose cure is right for both.
var codes = map[int]object.Code{
	http.StatusBadRequest:            object.CodeInvalid,
	http.StatusUnauthorized:          object.CodeUnauthorized,
	http.StatusForbidden:             object.CodeForbidden,
	http.StatusNotFound:              object.CodeNotFound,
	http.StatusConflict:              object.CodeConflict,
	http.StatusGone:                  object.CodeGone,
	http.StatusPreconditionFailed:    object.CodeStale,
	http.StatusRequestEntityTooLarge: object.CodeTooLarge,
	http.StatusUnprocessableEntity:   object.CodeUnplaceable,
	http.StatusExpectationFailed:     object.CodeGuard,
	http.StatusNotAcceptable:         object.CodePolicy,
	http.StatusLocked:                object.CodeFrozen,
	http.StatusServiceUnavailable:    object.CodeNoLeader,
	http.StatusBadGateway:            object.CodeUnavailable,
	http.StatusGatewayTimeout:        object.CodeTimeout,
	http.StatusInternalServerError:   object.CodeInternal,
}

// Code is the code that an HTTP status stands for.
func Code(status int) object.Code {
	if c, ok := codes[status]; ok {
		return c
	}
	if status >= 500 {
		return object.CodeUnavailable
	}
	return object.CodeInvalid
}

// maxError bounds what is read of an answer that is an error.
const maxError = 16 << 20

// readError is the error that an answer carries.
func readError(r *http.Response) *object.Error {
	b, _ := io.ReadAll(io.LimitReader(r.Body, maxError)) // half a body still says more than none
	var f struct {
		Error *object.Error `json:"error"`
	}
	if json.Unmarshal(b, &f) == nil && f.Error != nil && f.Error.Code != "" {
		return f.Error
	}
	return object.Errorf(Code(r.StatusCode), object.Ref{}, "the master answered %s", r.Status)
}

// connectionError explains why a request got no answer. sent tells that the
// request may have been carried out.
func connectionError(addr string, err error, sent bool) error {
	var own *object.Error
	if errors.As(err, &own) {
		return own
	}
	var p *pki.Problem
	if errors.As(err, &p) { // we broke the handshake off: nothing was sent
		e := object.Errorf(object.CodeUnauthorized, object.Ref{}, "%s: %w", addr, errors.New(p.Message))
		e.Hint = p.Hint
		return &misfit{e}
	}
	if errors.Is(err, context.DeadlineExceeded) && sent {
		return object.Errorf(object.CodeTimeout, object.Ref{}, "%s did not answer in time; the request may or may not have been carried out", addr)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		e := object.Errorf(object.CodeUnauthorized, object.Ref{}, "%s refused this connection: %w", addr, err)
		e.Hint = "Check that the certificate in use is of this cluster and has not expired."
		return &misfit{e}
	}
	return object.Errorf(object.CodeUnavailable, object.Ref{}, "%s cannot be reached: %w", addr, err)
}

// misfit is why one master will not do: its certificate is another cluster's or has
// expired, or it thinks so of ours. Another may do; to wait for this one is idle.
type misfit struct{ err *object.Error }

func (m *misfit) Error() string { return m.err.Error() }
func (m *misfit) Unwrap() error { return m.err }

// again reports whether another try, perhaps elsewhere, may go better.
func again(err error) bool {
	switch object.CodeOf(err) {
	case object.CodeNoLeader, object.CodeUnavailable:
		return true
	}
	return false
}

// refusals are what each master said last, of those that were asked.
type refusals []error

// misfits are the masters that will not do.
func (r refusals) misfits() []*object.Error {
	var out []*object.Error
	for _, err := range r {
		var m *misfit
		if errors.As(err, &m) {
			out = append(out, m.err)
		}
	}
	return out
}

// exhausted is the error for when nobody is tried any more. last is what one said
// that may yet do, nil if there is none such.
func (r refusals) exhausted(last error) error {
	unfit := r.misfits()
	if last == nil {
		if len(r) == 1 {
			return unfit[0]
		}
		e := *object.Errorf(unfit[0].Code, object.Ref{}, "none of %d masters will do; %s", len(r), join(unfit))
		e.Hint = unfit[0].Hint
		return &e
	}
	e := *object.Errorf(object.CodeOf(last), object.Ref{}, "%w", last)
	switch {
	case len(unfit) > 0:
		e.Message = fmt.Sprintf("none of %d masters could answer; the last one: %s; and %s", len(r), last, join(unfit))
		e.Hint = "Check that a majority of the masters is running; of what will not do, " + unfit[0].Hint + "."
	case len(r) > 1:
		e.Message = fmt.Sprintf("none of %d masters could answer; the last one: %s", len(r), last)
	}
	if e.Hint == "" {
		e.Hint = "Check that a majority of the masters is running and that the addresses are right."
	}
	return &e
}

func join(list []*object.Error) string {
	words := make([]string, len(list))
	for i, e := range list {
		words[i] = e.Error()
	}
	return strings.Join(words, "; ")
}
