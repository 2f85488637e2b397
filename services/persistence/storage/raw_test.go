package storage

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// What the store keeps of the log comes back byte for byte, whatever of it the body holds: data that
// are small, large, equal, or of events that the write did not store.
func TestRawRecordsComeBackByteForByte(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := openShard(t, "data", Options{FS: vfs.NewMem()})
		l := new(logOf)
		records := []*eventsv1.WriteCommandValidated{l.claim()}
		same := bytes.Repeat([]byte("x"), 100)
		for w := range rapid.IntRange(1, 5).Draw(rt, "writes") {
			var events []*eventsv1.NewEvent
			for i := range rapid.IntRange(1, 6).Draw(rt, "events") {
				e := event(fmt.Sprintf("e%d.%d", w, i), "t", rapid.SampledFrom([]int{0, 1, 63, 64, 500}).Draw(rt, "size"), "a")
				if rapid.Bool().Draw(rt, "same") {
					e.Data = same
				}
				events = append(events, e)
			}
			// Every second one is rejected: its events have no body.
			records = append(records, l.append("s", fmt.Sprintf("w%d", w), []int64{core.ExpectAny, 99}[w%2], events...))
		}
		applyTo(t, s, records...)
		next := 0
		err := s.RawRecords(0, func(r RawRecord) error {
			want, err := proto.Marshal(records[next])
			if err != nil {
				return err
			}
			if r.Offset != int64(next) || string(r.Key) != records[next].StreamId || !bytes.Equal(r.Value, want) {
				rt.Errorf("record %d came back at offset %d with %d bytes, want %d", next, r.Offset, len(r.Value), len(want))
			}
			next++
			return nil
		})
		if err != nil || next != len(records) {
			rt.Fatalf("%d of %d records, error %v", next, len(records), err)
		}
	})
}

// The data of a stored event are kept once; a raw record that cannot be put together again is an error.
func TestRawRecordsLeanOnTheBody(t *testing.T) {
	s := openShard(t, "data", Options{FS: vfs.NewMem()})
	l := new(logOf)
	applyTo(t, s, l.claim(), l.append("s", "w", core.ExpectAny, event("e", "t", 5000)))
	key := offsetKey(nil, prefixRaw, 1)
	var size int
	if _, err := get(s.db, key, func(v []byte) error { size = len(v); return nil }); err != nil || size > 500 {
		t.Fatalf("the raw record takes %d bytes, error %v", size, err)
	}
	for name, damage := range map[string]func() error{
		"body gone": func() error { return s.db.Delete(offsetKey(nil, prefixBody, 1), pebble.Sync) },
		"cut short": func() error { return s.db.Set(key, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 4, 1}, pebble.Sync) },
		"too large": func() error {
			return s.db.Set(key, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, pebble.Sync)
		},
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := s.RawRecords(1, func(RawRecord) error { return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
