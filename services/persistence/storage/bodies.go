package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// bodies reads event bodies by position. Positions that follow each other cost
// a step, others a seek.
type bodies struct {
	it  *pebble.Iterator
	cur position // of it, when it is valid
	key []byte
}

func newBodies(r pebble.Reader) (*bodies, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixBody}, UpperBound: []byte{prefixBody + 1}})
	if err != nil {
		return nil, err
	}
	return &bodies{it: it, cur: position{offset: -2}}, nil
}

// from gives the first body at a position or after it; it is valid until the next call.
func (b *bodies) from(p position) (raw []byte, at position, ok bool, err error) {
	valid := b.it.Valid()
	switch {
	case valid && b.cur == p:
	case valid && b.cur.before(p) && p.offset-b.cur.offset <= 1:
		valid = b.it.Next()
		if valid && readPosition(b.it.Key()[1:]).before(p) {
			valid = b.seek(p)
		}
	default:
		valid = b.seek(p)
	}
	if !valid {
		return nil, position{}, false, b.it.Error()
	}
	if len(b.it.Key()) != 1+positionLen {
		return nil, position{}, false, errMalformed
	}
	b.cur = readPosition(b.it.Key()[1:])
	raw, err = b.it.ValueAndErr()
	return raw, b.cur, true, err
}

func (b *bodies) seek(p position) bool {
	b.key = bodyKey(b.key[:0], p)
	return b.it.SeekGE(b.key)
}

// at gives the body at a position; that there is none is an error.
func (b *bodies) at(p position) ([]byte, error) {
	raw, at, ok, err := b.from(p)
	if err != nil {
		return nil, err
	}
	if !ok || at != p {
		return nil, fmt.Errorf("there is no event at log offset %d, index %d", p.offset, p.index)
	}
	return raw, nil
}

func (b *bodies) close() error { return b.it.Close() }
