package core

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Outcome is the answer to a write: exactly one of the two is set.
type Outcome struct {
	Acknowledged *eventsv1.WriteAcknowledged
	Rejected     *eventsv1.WriteRejected
}

// ReplyTo is the reply address of a write: the gateway's address and the hash of
// the request's body. Answers carry it back, so that an answer to another body
// under the same write_id (a reused key) reaches no one who did not send that body.
func ReplyTo(address string, bodyHash []byte) string {
	return address + "#" + hex.EncodeToString(bodyHash[:min(8, len(bodyHash))])
}

// Key is what an answer is matched by.
type Key struct{ WriteID, ReplyTo string }

// KeyOf is the key of a request.
func KeyOf(w *eventsv1.StreamWriteRequested) Key { return Key{w.GetWriteId(), w.GetReplyTo()} }

// Key is that of the request which the outcome answers.
func (o Outcome) Key() Key {
	if o.Acknowledged != nil {
		return Key{o.Acknowledged.GetWriteId(), o.Acknowledged.GetReplyTo()}
	}
	return Key{o.Rejected.GetWriteId(), o.Rejected.GetReplyTo()}
}

// How a request ends without an answer.
var (
	// ErrFull: as many requests wait as may. Nothing was produced.
	ErrFull = errors.New("the table of waiting requests is full")
	// ErrNotProduced: the request did not reach the bus and never will.
	ErrNotProduced = errors.New("the request was not produced")
	// ErrNoAnswer: the request was, or may have been, produced, and no answer came in time.
	ErrNoAnswer = errors.New("no answer came in time")
)

// fullError is ErrFull with the bound.
type fullError struct{ bound int }

func (e fullError) Error() string { return fmt.Sprintf("%v: bound %d", ErrFull, e.bound) }
func (e fullError) Unwrap() error { return ErrFull }

// Full is ErrFull of a table that holds at most bound requests.
func Full(bound int) error { return fullError{bound} }

// Bound is how many requests may wait, by an error that wraps ErrFull; else 0.
func Bound(err error) int {
	var full fullError
	errors.As(err, &full)
	return full.bound
}

// Waiting is the table of requests that wait for an answer. Several may wait
// for the same one: retries of one write. It is not safe for concurrent use.
type Waiting[W comparable] struct {
	bound int
	count int
	table map[Key][]W // Invariant: no empty lists; count is the sum of their lengths, at most bound
}

// NewWaiting makes a table for at most bound requests.
func NewWaiting[W comparable](bound int) *Waiting[W] {
	return &Waiting[W]{bound: bound, table: map[Key][]W{}}
}

// Add lets w wait; an error that wraps ErrFull over the bound.
func (t *Waiting[W]) Add(key Key, w W) error {
	if t.count >= t.bound {
		return Full(t.bound)
	}
	t.table[key] = append(t.table[key], w)
	t.count++
	return nil
}

// Resolve takes out everyone who waits for the answer with that key. A second copy finds no one.
func (t *Waiting[W]) Resolve(key Key) []W {
	waiting, found := t.table[key]
	if found {
		delete(t.table, key)
		t.count -= len(waiting)
	}
	return waiting
}

// Remove takes out one who no longer waits; false when w was taken out before.
func (t *Waiting[W]) Remove(key Key, w W) bool {
	waiting := t.table[key]
	i := slices.Index(waiting, w)
	if i < 0 {
		return false
	}
	t.count--
	if len(waiting) == 1 {
		delete(t.table, key)
	} else {
		t.table[key] = slices.Delete(waiting, i, i+1)
	}
	return true
}

// Len is how many wait.
func (t *Waiting[W]) Len() int { return t.count }
