package bus

import (
	"testing"
	"time"
)

func TestEventHeaders(t *testing.T) {
	full := Event{
		ID: "id", Source: "/store/store-0", Type: "events_persisted", Subject: "orders-1",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC), StoreID: "s", Node: "store-0",
		Incarnation: 7, Sequence: 1<<64 - 1, CorrelationID: "co", CausationID: "ca", TraceParent: "00-x",
	}
	for _, e := range []Event{full, {ID: "only"}, {}} {
		got, err := ParseEvent(e.Headers())
		if err != nil || got != e {
			t.Errorf("got %+v, want %+v, err %v", got, e, err)
		}
	}
	hs := full.Headers()
	r := Record{Headers: hs}
	for key, want := range map[string]string{
		"ce_specversion": "1.0", "ce_time": "2026-01-02T03:04:05.678901234Z", "content-type": "application/protobuf",
		"ce_sequence": "18446744073709551615", "traceparent": "00-x", "ce_storeid": "s",
	} {
		if got := r.Header(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if n := len((&Event{ID: "only"}).Headers()); n != 3 {
		t.Errorf("%d headers, want version, id and content type", n)
	}
	for _, h := range hs {
		if headerKey([]byte(h.Key)) != h.Key {
			t.Errorf("key %s", h.Key)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = full.Headers() }); n > 2 {
		t.Errorf("%v allocations, want at most 2", n)
	}
}

// A slim envelope is read as the full one; an id or a source of another form tells nothing, and does no harm.
func TestSlimEnvelope(t *testing.T) {
	full := Event{
		ID: NewEventIDs("store-0", 1<<64-1).Of(36), Source: EventSource("orders", "store-0"), Type: "write_acknowledged",
		StoreID: "orders", Node: "store-0", Incarnation: 1<<64 - 1, Sequence: 36,
	}
	slim := full.Slim()
	if got, err := ParseEvent(slim.Headers()); err != nil || got != full {
		t.Errorf("got %+v, want %+v, err %v", got, full, err)
	}
	if with, without := len(full.Headers()), len(slim.Headers()); without != with-4 {
		t.Errorf("%d headers, %d when slim", with, without)
	}
	for _, e := range []Event{
		{ID: "store-0-1", Source: full.Source},
		{ID: "other-0-1-1", Source: full.Source},
		{ID: "store-0-!-1", Source: full.Source},
		{ID: full.ID, Source: "/exesdb/store-0"},
		{ID: full.ID, Source: "https://example.com/orders/store-0"},
	} {
		if got, err := ParseEvent(e.Headers()); err != nil || got != e {
			t.Errorf("got %+v, want %+v, err %v", got, e, err)
		}
	}
}

func TestParseEventRefuses(t *testing.T) {
	for _, hs := range [][]Header{
		nil,
		{{HeaderID, []byte("1")}},
		{{HeaderSpecVersion, []byte("0.3")}},
		{{HeaderSpecVersion, []byte("1.0")}, {HeaderSequence, []byte("-1")}},
		{{HeaderSpecVersion, []byte("1.0")}, {HeaderTime, []byte("yesterday")}},
	} {
		if _, err := ParseEvent(hs); err == nil {
			t.Errorf("%v: no error", hs)
		}
	}
}
