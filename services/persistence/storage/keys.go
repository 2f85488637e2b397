package storage

import (
	"encoding/binary"
	"strings"
)

// The keys of a shard begin with one letter each. Numbers are big endian, so
// that keys sort as the log and the versions do. What can be is kept per write, not per
// event: a write of a hundred events has one body, one entry by version and one by type.
const (
	prefixBody     = 'p' // offset(8) -> the events of the write
	prefixVersion  = 's' // stream NUL version(8) of a write's first event -> span
	prefixHead     = 'h' // stream -> head
	prefixEvent    = 'i' // event id -> place
	prefixWrite    = 'w' // write id -> memory of the write
	prefixOutcome  = 'o' // offset(8) -> Outcome
	prefixType     = 't' // type NUL offset(8) of a write with such an event -> nothing
	prefixTag      = 'g' // tag NUL offset(8) of a write with such an event -> nothing
	prefixCategory = 'c' // category NUL offset(8) of a write with events -> nothing
	prefixRaw      = 'r' // offset(8) -> raw record; only of the last stretch
	prefixMeta     = 'm' // -> meta
)

// position of an event in the log: the offset of its write and its place in it.
type position struct {
	offset int64
	index  int32
}

func (p position) before(q position) bool {
	return p.offset < q.offset || p.offset == q.offset && p.index < q.index
}

// next is the smallest position after p.
func (p position) next() position {
	if p.index == 1<<31-1 {
		return position{offset: p.offset + 1}
	}
	return position{offset: p.offset, index: p.index + 1}
}

func versionPrefix(b []byte, stream string) []byte {
	b = append(b, prefixVersion)
	b = append(b, stream...)
	return append(b, 0)
}

func versionKey(b []byte, stream string, version int64) []byte {
	return binary.BigEndian.AppendUint64(versionPrefix(b, stream), uint64(version))
}

func nameKey(b []byte, prefix byte, name string) []byte { return append(append(b, prefix), name...) }

func offsetKey(b []byte, prefix byte, offset int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, prefix), uint64(offset))
}

func termPrefix(b []byte, prefix byte, term string) []byte {
	b = append(b, prefix)
	b = append(b, term...)
	return append(b, 0)
}

func termKey(b []byte, prefix byte, term string, offset int64) []byte {
	return binary.BigEndian.AppendUint64(termPrefix(b, prefix, term), uint64(offset))
}

// after is the first key that does not begin with prefix; prefix is not all 0xff.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// Category of a stream: what stands before the first '-', or all of it.
func Category(stream string) string {
	category, _, _ := strings.Cut(stream, "-")
	return category
}
