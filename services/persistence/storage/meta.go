package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/exesdb/exesdb/services/persistence/core"
)

// formatVersion of the keys and values of a shard.
const formatVersion = 2

// meta is the one key that says what the other keys have come to. It is written
// with every batch.
type meta struct {
	core.State
	// Events that were ever appended.
	Events int64
	// Deletes that were applied; with none, no event is hidden.
	Deletes int64
	// Raw are the chunks of raw records, oldest first.
	Raw []rawChunk
}

// rawChunk is a run of raw records from one offset up to the next chunk's.
type rawChunk struct {
	from  int64
	bytes int64
}

func (m *meta) numbers() []*int64 {
	return []*int64{
		&m.Applied, &m.Term, &m.Seq, &m.RequestOffset, &m.TimeMS,
		&m.Rules.DedupeWindow, &m.Rules.MaxEventBytes, &m.Rules.MaxWriteBytes,
		&m.ForgottenBelow, &m.SweptBelow, &m.Events, &m.Deletes,
	}
}

func (m *meta) append(b []byte) []byte {
	b = append(b, formatVersion)
	for _, n := range m.numbers() {
		b = binary.BigEndian.AppendUint64(b, uint64(*n))
	}
	b = binary.BigEndian.AppendUint64(b, m.OutcomeHash)
	b = binary.BigEndian.AppendUint64(b, m.RecordHash)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Rules.Version))
	b = binary.BigEndian.AppendUint32(b, uint32(m.Rules.MaxWriteEvents))
	for _, c := range m.Raw {
		b = binary.BigEndian.AppendUint64(b, uint64(c.from))
		b = binary.BigEndian.AppendUint64(b, uint64(c.bytes))
	}
	return b
}

func readMeta(b []byte) (meta, error) {
	var m meta
	numbers := m.numbers()
	fixed := 1 + 8*len(numbers) + 8 + 8 + 4 + 4
	if len(b) > 0 && b[0] != formatVersion {
		return meta{}, fmt.Errorf("storage format %d, this release reads %d", b[0], formatVersion)
	}
	if len(b) < fixed || (len(b)-fixed)%16 != 0 {
		return meta{}, errMalformed
	}
	b = b[1:]
	for _, n := range numbers {
		*n = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	m.OutcomeHash = binary.BigEndian.Uint64(b)
	m.RecordHash = binary.BigEndian.Uint64(b[8:])
	m.Rules.Version = int32(binary.BigEndian.Uint32(b[16:]))
	m.Rules.MaxWriteEvents = int32(binary.BigEndian.Uint32(b[20:]))
	for b = b[24:]; len(b) > 0; b = b[16:] {
		m.Raw = append(m.Raw, rawChunk{from: int64(binary.BigEndian.Uint64(b)), bytes: int64(binary.BigEndian.Uint64(b[8:]))})
	}
	return m, nil
}
