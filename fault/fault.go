// Package fault gives errors a kind, so that the command line can choose an exit
// code without looking at texts. Every message that can reach a user reads
// "PLACE: CAUSE", where PLACE begins with the file when there is one.
package fault

import (
	"errors"
	"fmt"
)

// Kind classifies an error by what the user can do about it.
type Kind uint8

const (
	Internal    Kind = iota // a defect of ours
	Answer                  // a check ran and the answer is no
	Usage                   // the command line is wrong
	Data                    // an input file holds something wrong
	Missing                 // an input is absent or unreadable
	Device                  // a device or driver is unavailable or failed
	CannotWrite             // an output cannot be created
	IO                      // reading or writing failed midway
	Interrupted             // stopped on request; resumable
	Config                  // a configuration value is wrong
	Diverged                // training produced NaN or infinity
)

// Error is a message with a kind and, optionally, the error it wraps.
type Error struct {
	Kind  Kind
	Text  string
	Cause error
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the wrapped error, or nil.
func (e *Error) Unwrap() error { return e.Cause }

// New formats an error of the given kind. A %w verb wraps its operand.
func New(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Text: err.Error(), Cause: errors.Unwrap(err)}
}

// In prefixes err with a place ("FILE", "FILE: line 3"), keeping its kind.
func In(place string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Text: place + ": " + err.Error(), Cause: err}
}

// As gives err a kind if it has none yet.
func As(kind Kind, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Kind: kind, Text: err.Error(), Cause: err}
}

// KindOf returns the kind of err, Internal if it carries none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Known reports whether err carries a kind.
func Known(err error) bool {
	var e *Error
	return errors.As(err, &e)
}
