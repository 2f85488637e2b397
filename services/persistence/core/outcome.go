package core

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Chain is the rolling hash of the outcomes through o: xxhash64 over the hash
// before it and every field that decides something. The message (words) and the
// reply address (routing) do not, so they may differ between releases.
func Chain(before uint64, o *eventsv1.Outcome) uint64 {
	var scratch [512]byte
	b := scratch[:0]
	b = binary.BigEndian.AppendUint64(b, before)
	for _, n := range [...]int64{
		o.LogOffset, o.PreviousOffset, int64(o.Kind), int64(o.Command), int64(o.Reason),
		o.FirstVersion, o.NewVersion, o.ExpectedVersion, o.ActualVersion, o.DuplicateOf,
		o.Term, o.Seq, o.RequestOffset, o.CreatedAtMs,
	} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = appendString(b, o.StreamId)
	b = appendString(b, o.WriteId)
	b = binary.BigEndian.AppendUint64(b, uint64(len(o.EventIds)))
	for _, id := range o.EventIds {
		b = appendString(b, id)
	}
	return xxhash.Sum64(b)
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}
