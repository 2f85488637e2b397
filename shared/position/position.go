// Package position holds the one cursor of the system: a place in the logs of
// the shards, as an opaque and URL-safe token. The token of one place (Position)
// is also that of a Cursor which knows one shard only.
package position

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Position is the place of one event: its shard, the offset of its write in the
// shard's log, and its index in the write. Events after it are those of the same
// shard with a higher (Offset, Index). Offset -1 is before the first event.
type Position struct {
	// Invariant: Shard >= 0.
	Shard int32
	// Invariant: Offset >= -1.
	Offset int64
	// Invariant: Index >= -1.
	Index int32
}

// End is the place after every event of the write at that log offset. Its index
// leaves room for a reader that adds one.
func End(shard int32, offset int64) Position {
	return Position{Shard: shard, Offset: offset, Index: math.MaxInt32 - 1}
}

// Compare orders places by shard, log offset and index.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Shard, q.Shard), cmp.Compare(p.Offset, q.Offset), cmp.Compare(p.Index, q.Index))
}

// String is the token of the place.
func (p Position) String() string { return encode([]Position{p}) }

// Parse reads the token of one place. The error says what is wrong with it.
func Parse(token string) (Position, error) {
	places, err := decode(token)
	if err != nil {
		return Position{}, err
	}
	if len(places) != 1 {
		return Position{}, fmt.Errorf("position %s is one of %d shards: want that of a single event", shown(token), len(places))
	}
	return places[0], nil
}

// Cursor is a place in several shards: at most one Position each. A shard that
// is not in it starts from its first event. The zero value is the start of all.
type Cursor struct {
	// Invariant: ordered by shard, without repetition.
	places []Position
}

// NewCursor makes a cursor of these places; of two in one shard the later counts.
func NewCursor(places ...Position) Cursor {
	var c Cursor
	for _, p := range places {
		if have := c.At(p.Shard); p.Compare(have) > 0 {
			c = c.With(p)
		}
	}
	return c
}

// ParseCursor reads the token of a cursor or of one place.
func ParseCursor(token string) (Cursor, error) {
	places, err := decode(token)
	return Cursor{places}, err
}

// At is the cursor's place in the shard; (-1, -1) is the start.
func (c Cursor) At(shard int32) Position {
	if i, found := c.find(shard); found {
		return c.places[i]
	}
	return Position{Shard: shard, Offset: -1, Index: -1}
}

// With is the cursor with its place in p's shard set to p; c itself stays as it is.
func (c Cursor) With(p Position) Cursor {
	i, found := c.find(p.Shard)
	places := slices.Clone(c.places)
	if found {
		places[i] = p
	} else {
		places = slices.Insert(places, i, p)
	}
	return Cursor{places}
}

// Places lists the cursor's places, by shard.
func (c Cursor) Places() []Position { return slices.Clone(c.places) }

// Highest is the highest shard that the cursor names, or -1.
func (c Cursor) Highest() int32 {
	if len(c.places) == 0 {
		return -1
	}
	return c.places[len(c.places)-1].Shard
}

// String is the token of the cursor.
func (c Cursor) String() string { return encode(c.places) }

func (c Cursor) find(shard int32) (int, bool) {
	return slices.BinarySearchFunc(c.places, shard, func(p Position, s int32) int { return cmp.Compare(p.Shard, s) })
}
