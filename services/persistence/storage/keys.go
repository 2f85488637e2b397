package storage

import (
	"encoding/binary"
	"strings"
)

// The keys of a shard begin with one letter each. Numbers are big endian, so
// that keys sort as the log and the versions do.
const (
	prefixBody     = 'p' // offset(8) index(4) -> RecordedEvent
	prefixVersion  = 's' // stream NUL version(8) -> offset(8) index(4)
	prefixHead     = 'h' // stream -> head
	prefixEvent    = 'i' // event id -> place
	prefixWrite    = 'w' // write id -> memory of the write
	prefixOutcome  = 'o' // offset(8) -> Outcome
	prefixType     = 't' // type NUL offset(8) index(4) -> nothing
	prefixTag      = 'g' // tag NUL offset(8) index(4) -> nothing
	prefixCategory = 'c' // category NUL offset(8) index(4) -> nothing
	prefixRaw      = 'r' // offset(8) -> raw record; only of the last stretch
	prefixMeta     = 'm' // -> meta
)

const positionLen = 12

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

// previous is the largest position before p.
func (p position) previous() position {
	if p.index == 0 {
		return position{offset: p.offset - 1, index: 1<<31 - 1}
	}
	return position{offset: p.offset, index: p.index - 1}
}

func appendPosition(b []byte, p position) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
	return binary.BigEndian.AppendUint32(b, uint32(p.index))
}

func readPosition(b []byte) position {
	return position{offset: int64(binary.BigEndian.Uint64(b)), index: int32(binary.BigEndian.Uint32(b[8:]))}
}

func bodyKey(b []byte, p position) []byte { return appendPosition(append(b, prefixBody), p) }

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

func termKey(b []byte, prefix byte, term string, p position) []byte {
	return appendPosition(termPrefix(b, prefix, term), p)
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
