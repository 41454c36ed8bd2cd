package object

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an error so that it keeps its meaning across machines. The
// words are part of the API; api and client map them to HTTP statuses and back.
type Code string

// The codes.
const (
	CodeInvalid      Code = "invalid"      // the request is wrong in itself
	CodeNotFound     Code = "not_found"    // no such object
	CodeExists       Code = "exists"       // a create of what is there
	CodeConflict     Code = "conflict"     // somebody wrote in between: look again
	CodeStale        Code = "stale"        // a saved plan whose objects have changed since
	CodeGone         Code = "gone"         // the watch index is older than the log: list again
	CodeUnauthorized Code = "unauthorized" // who are you?
	CodeForbidden    Code = "forbidden"    // not with this role
	CodeUnplaceable  Code = "unplaceable"  // the plan asks for more than the nodes have
	CodeGuard        Code = "guard"        // the plan does more than its guards allow
	CodePolicy       Code = "policy"       // a policy of the cluster refuses it
	CodeFrozen       Code = "frozen"       // it falls into the window of a freeze
	CodeNoLeader     Code = "no_leader"    // the masters have no leader just now: try again
	CodeUnavailable  Code = "unavailable"  // cannot be reached, or not ready
	CodeTooLarge     Code = "too_large"    // over a limit
	CodeTimeout      Code = "timeout"      // took too long; it may or may not have happened
	CodeInternal     Code = "internal"     // a defect of Berth
)

// Error is the one error shape, in process and on the wire.
type Error struct {
	Code        Code        `json:"code"`
	Ref         Ref         `json:"ref,omitzero"`
	Message     string      `json:"message"`        // what is wrong
	Hint        string      `json:"hint,omitempty"` // what to do
	Diagnostics Diagnostics `json:"diagnostics,omitempty"`
	// By and At tell who changed the object of a conflict, and when.
	By string    `json:"by,omitempty"`
	At time.Time `json:"at,omitzero"`
	// Fields are those that were changed, as far as that is known.
	Fields []FieldDiff `json:"fields,omitempty"`

	cause error
}

// Error is the message with what it is about; the hint is for people (see view).
func (e *Error) Error() string {
	s := e.Message
	if !e.Ref.IsZero() && e.Ref.Name != "" {
		s = e.Ref.String() + ": " + s
	}
	return s
}

// Unwrap gives the cause; Message already has its text.
func (e *Error) Unwrap() error { return e.cause }

// Errorf makes an Error; a %w in the format becomes the cause.
func Errorf(code Code, ref Ref, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Ref: ref, Message: err.Error(), cause: errors.Unwrap(err)}
}

// CodeOf is the code of the first Error in the chain, CodeInternal without one.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// IsCode reports whether the error carries the code.
func IsCode(err error, c Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == c
}
