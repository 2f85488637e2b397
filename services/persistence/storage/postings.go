package storage

import (
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

// postings are positions of events in log order.
type postings interface {
	// seek gives the first position at p or after it. p never goes back.
	seek(p position) (position, bool, error)
	close() error
}

// newPostings makes the narrowest candidates that the indexes give for a
// selector; nil when they give none and every event must be looked at.
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

func (t *term) seek(p position) (position, bool, error) {
	if t.begun && t.it.Valid() {
		if at := t.current(); !at.before(p) {
			return at, true, nil
		}
		if t.it.Next() {
			if at := t.current(); !at.before(p) {
				return at, true, nil
			}
		}
	}
	if t.begun && !t.it.Valid() {
		return position{}, false, t.it.Error()
	}
	t.begun = true
	t.key = appendPosition(append(t.key[:0], t.prefix...), p)
	if !t.it.SeekGE(t.key) {
		return position{}, false, t.it.Error()
	}
	return t.current(), true, nil
}

func (t *term) current() position {
	key := t.it.Key()
	return readPosition(key[len(key)-positionLen:])
}

func (t *term) close() error { return t.it.Close() }

// union has the positions that any of its lists has.
type union []postings

func (u union) seek(p position) (position, bool, error) {
	var least position
	found := false
	for _, list := range u {
		at, ok, err := list.seek(p)
		if err != nil {
			return position{}, false, err
		}
		if ok && (!found || at.before(least)) {
			least, found = at, true
		}
	}
	return least, found, nil
}

func (u union) close() error { return closeAll(u) }

// intersection has the positions that all of its lists have: each in turn is
// moved up to where the others are, until they agree.
type intersection struct {
	lists []postings
	// steps of at most budget.
	steps, budget int
	// reached is a position before which nothing more is to be found.
	reached position
}

// seek implements postings; with errSpent, reached says how far it came.
func (s *intersection) seek(p position) (position, bool, error) {
	for agreed := 0; ; {
		for _, list := range s.lists {
			if s.steps++; s.steps > s.budget {
				s.reached = p
				return position{}, false, errSpent
			}
			at, ok, err := list.seek(p)
			if err != nil || !ok {
				return position{}, false, err
			}
			if at != p {
				p, agreed = at, 0
			}
			if agreed++; agreed == len(s.lists) {
				return p, true, nil
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
