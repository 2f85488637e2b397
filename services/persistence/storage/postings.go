package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// errSpent says that an intersection looked at as much as a page may.
var errSpent = errors.New("the page's scan is spent")

// maxTerms bounds the types and tags of one selector.
const maxTerms = 256

// postings are the log offsets of writes, in order.
type postings interface {
	// seek gives the first offset that is at least from, which never goes back.
	seek(from int64) (int64, bool, error)
	close() error
}

// newPostings makes the narrowest candidates that the indexes give for a
// selector: writes, of which not every event need match. nil when they give none
// and every write must be looked at.
func newPostings(r pebble.Reader, sel *eventsv1.Selector, budget int) (postings, error) {
	if sel == nil {
		return nil, nil
	}
	if n := len(sel.EventTypes) + len(sel.TagsAny) + len(sel.TagsAll); n > maxTerms {
		return nil, &QueryError{Reason: fmt.Sprintf("%d types and tags, the limit is %d", n, maxTerms)}
	}
	all := &intersection{budget: budget}
	add := func(prefix byte, terms ...string) error {
		if len(terms) == 0 {
			return nil
		}
		var either union
		for _, term := range terms {
			if strings.IndexByte(term, 0) >= 0 {
				return errors.Join(&QueryError{Reason: "a type or tag has a NUL"}, either.close())
			}
			list, err := newTerm(r, prefix, term)
			if err != nil {
				return errors.Join(err, either.close())
			}
			either = append(either, list)
		}
		if len(either) == 1 {
			all.lists = append(all.lists, either[0])
		} else {
			all.lists = append(all.lists, either)
		}
		return nil
	}
	err := add(prefixType, sel.EventTypes...)
	if err == nil {
		err = add(prefixTag, sel.TagsAny...)
	}
	for _, tag := range sel.TagsAll {
		if err == nil {
			err = add(prefixTag, tag)
		}
	}
	if category, ok := categoryOf(sel); ok && err == nil {
		err = add(prefixCategory, category)
	}
	if err != nil {
		return nil, errors.Join(err, all.close())
	}
	switch len(all.lists) {
	case 0:
		return nil, nil
	case 1:
		return all.lists[0], nil
	}
	return all, nil
}

// categoryOf is the one category that a selector's streams can have, if it is one.
func categoryOf(sel *eventsv1.Selector) (string, bool) {
	for _, prefix := range []string{sel.StreamPrefix, beginning(sel.StreamPattern)} {
		if category, _, ok := strings.Cut(prefix, "-"); ok && !strings.Contains(category, "\x00") {
			return category, true
		}
	}
	if pattern, whole := literal(sel.StreamPattern); whole && pattern != "" {
		return Category(pattern), true
	}
	return "", false
}

func beginning(pattern string) string {
	prefix, _ := literal(pattern)
	return prefix
}

// term is the index of one type, tag or category.
type term struct {
	it     *pebble.Iterator
	prefix []byte
	key    []byte
	begun  bool
}

func newTerm(r pebble.Reader, prefix byte, name string) (*term, error) {
	lower := termPrefix(nil, prefix, name)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after(lower)})
	if err != nil {
		return nil, fmt.Errorf("read index of %q: %w", name, err)
	}
	return &term{it: it, prefix: lower}, nil
}

func (t *term) seek(from int64) (int64, bool, error) {
	if t.begun && t.it.Valid() {
		if at := t.current(); at >= from {
			return at, true, nil
		}
		if t.it.Next() {
			if at := t.current(); at >= from {
				return at, true, nil
			}
		}
	}
	if t.begun && !t.it.Valid() {
		return 0, false, t.it.Error()
	}
	t.begun = true
	t.key = binary.BigEndian.AppendUint64(append(t.key[:0], t.prefix...), uint64(from))
	if !t.it.SeekGE(t.key) {
		return 0, false, t.it.Error()
	}
	return t.current(), true, nil
}

func (t *term) current() int64 {
	key := t.it.Key()
	return int64(binary.BigEndian.Uint64(key[len(key)-8:]))
}

func (t *term) close() error { return t.it.Close() }

// union has the offsets that any of its lists has.
type union []postings

func (u union) seek(from int64) (int64, bool, error) {
	var least int64
	found := false
	for _, list := range u {
		at, ok, err := list.seek(from)
		if err != nil {
			return 0, false, err
		}
		if ok && (!found || at < least) {
			least, found = at, true
		}
	}
	return least, found, nil
}

func (u union) close() error { return closeAll(u) }

// intersection has the offsets that all of its lists have: each in turn is
// moved up to where the others are, until they agree.
type intersection struct {
	lists []postings
	// steps of at most budget.
	steps, budget int
	// reached is an offset before which nothing more is to be found.
	reached int64
}

// seek implements postings; with errSpent, reached says how far it came.
func (s *intersection) seek(from int64) (int64, bool, error) {
	for agreed := 0; ; {
		for _, list := range s.lists {
			if s.steps++; s.steps > s.budget {
				s.reached = from
				return 0, false, errSpent
			}
			at, ok, err := list.seek(from)
			if err != nil || !ok {
				return 0, false, err
			}
			if at != from {
				from, agreed = at, 0
			}
			if agreed++; agreed == len(s.lists) {
				return from, true, nil
			}
		}
	}
}

func (s *intersection) close() error { return closeAll(s.lists) }

func closeAll(lists []postings) error {
	var errs []error
	for _, list := range lists {
		errs = append(errs, list.close())
	}
	return errors.Join(errs...)
}
