package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
	"github.com/exesdb/exesdb/services/persistence/storage"
	"github.com/exesdb/exesdb/shared/bus"
)

// errNoValue is why a record without a value cannot be decoded.
var errNoValue = errors.New("the record has no value")

// decode makes a command of a record of the log. It never fails: what cannot be
// decoded is a command without a record, which the core skips, on every replica
// alike. The reason is our own words, because the decoder's differ between releases.
func decode(r bus.Record) core.Command {
	cmd := core.Command{Offset: r.Offset, RecordHash: recordHash(r)}
	c, err := decodeValue(r.Value)
	if err != nil {
		cmd.Undecodable = "not a WriteCommandValidated"
		return cmd
	}
	cmd.Record = c
	return cmd
}

func decodeValue(value []byte) (*eventsv1.WriteCommandValidated, error) {
	if len(value) == 0 {
		return nil, errNoValue
	}
	c := new(eventsv1.WriteCommandValidated)
	if err := proto.Unmarshal(value, c); err != nil {
		return nil, fmt.Errorf("decode WriteCommandValidated: %w", err)
	}
	return c, nil
}

// recordHash tells records apart by key and value. Headers and time are left out:
// they may change when a log is refilled.
func recordHash(r bus.Record) uint64 {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(r.Key)))
	d := xxhash.New()
	_, _ = d.Write(size[:]) // never fails
	_, _ = d.Write(r.Key)
	_, _ = d.Write(r.Value)
	return d.Sum64()
}

// rawOf keeps a record as it was read. The storage copies it.
func rawOf(r bus.Record) storage.RawRecord {
	raw := storage.RawRecord{Offset: r.Offset, TimestampMS: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	if len(r.Headers) > 0 {
		raw.Headers = make([]storage.RawHeader, len(r.Headers))
		for i, h := range r.Headers {
			raw.Headers[i] = storage.RawHeader{Key: []byte(h.Key), Value: h.Value}
		}
	}
	return raw
}
