package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berthdev/berth/cluster/object"
)

// statuses maps codes to HTTP; client/error.go has the inverse, and one test
// holds both against each other. The body's code is what counts: the status is
// for those who look no further.
var statuses = map[object.Code]int{
	object.CodeInvalid:      http.StatusBadRequest,
	object.CodeUnauthorized: http.StatusUnauthorized,
	object.CodeForbidden:    http.StatusForbidden,
	object.CodeNotFound:     http.StatusNotFound,
	object.CodeExists:       http.StatusConflict,
	object.CodeConflict:     http.StatusConflict,
	object.CodeGone:         http.StatusGone,
	object.CodeStale:        http.StatusPreconditionFailed,
	object.CodeTooLarge:     http.StatusRequestEntityTooLarge,
	object.CodeUnplaceable:  http.StatusUnprocessableEntity,
	object.CodeGuard:        http.StatusExpectationFailed,
	object.CodePolicy:       http.StatusNotAcceptable,
	object.CodeFrozen:       http.StatusLocked,
	object.CodeNoLeader:     http.StatusServiceUnavailable,
	object.CodeUnavailable:  http.StatusBadGateway,
	object.CodeTimeout:      http.StatusGatewayTimeout,
	object.CodeInternal:     http.StatusInternalServerError,
}

// Status is the HTTP status of an error's code.
func Status(c object.Code) int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// retryAfter is what a client without a leader is told to wait: about an election.
const retryAfter = time.Second

// failure is the one shape of every error on the wire.
type failure struct {
	Err *object.Error `json:"error"`
}

// Error makes failure an error for huma.
func (f *failure) Error() string { return f.Err.Error() }

// GetStatus tells huma the status.
func (f *failure) GetStatus() int { return Status(f.Err.Code) }

// GetHeaders adds Retry-After where it makes sense to try again.
func (f *failure) GetHeaders() http.Header {
	h := http.Header{}
	if f.Err.Code == object.CodeNoLeader || f.Err.Code == object.CodeUnavailable {
		h.Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	return h
}

// fail turns any error into the wire's shape.
func fail(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var e *object.Error
	if errors.As(err, &e) {
		return &failure{Err: e}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &failure{Err: object.Errorf(object.CodeTooLarge, object.Ref{}, "the body is larger than %s", object.Bytes(tooLarge.Limit))}
	}
	return &failure{Err: object.Errorf(object.CodeInternal, object.Ref{}, "%w", err)}
}

// writeError answers with an error outside of huma.
func writeError(w http.ResponseWriter, err error) {
	f := fail(err)
	for k, v := range f.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.GetStatus())
	_ = json.NewEncoder(w).Encode(f) // the client may be gone; nothing is left to do
}

// writeJSON answers with a value outside of huma.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone; nothing is left to do
}

// huma's own errors (a parameter of the wrong type, JSON that does not parse)
// take our shape. The variable is huma's only hook for this; Berth has no other
// user of huma in the process.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		code := object.CodeInvalid
		for c, s := range statuses {
			if s == status && c != object.CodeExists {
				code = c
			}
		}
		if status == http.StatusUnprocessableEntity || status == http.StatusRequestTimeout {
			code = object.CodeInvalid
		}
		e := &object.Error{Code: code, Message: msg}
		for _, err := range errs {
			if err == nil {
				continue
			}
			var own *object.Error
			var tooLarge *http.MaxBytesError
			if errors.As(err, &own) || errors.As(err, &tooLarge) {
				return fail(err)
			}
			d := object.Diagnostic{Severity: object.SeverityError, Summary: err.Error()}
			var detail *huma.ErrorDetail
			if errors.As(err, &detail) {
				d.Summary, d.Path = detail.Message, detail.Location
			}
			e.Diagnostics = append(e.Diagnostics, d)
			e.Message += ": " + d.Summary
		}
		return &failure{Err: e}
	}
}
