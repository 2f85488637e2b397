package core

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

func event1(change func(*apiv1.ProposedEvent)) *apiv1.ProposedEvent {
	e := &apiv1.ProposedEvent{EventType: "Happened", Data: []byte(`{"a": 1}`)}
	if change != nil {
		change(e)
	}
	return e
}

func TestAppendRefuses(t *testing.T) {
	small := Limits{EventBytes: 100, WriteBytes: 150, WriteEvents: 3}
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		name   string
		req    *apiv1.AppendRequest
		status int
		want   string
	}{
		{"empty stream id", &apiv1.AppendRequest{}, 400, "stream id is empty"},
		{"long stream id", &apiv1.AppendRequest{StreamId: long}, 400, "256 bytes: want 1 to 255"},
		{"bad UTF-8", &apiv1.AppendRequest{StreamId: "a\xff"}, 400, "not valid UTF-8"},
		{"control character", &apiv1.AppendRequest{StreamId: "a\nb"}, 400, "unprintable character U+000A at byte 1"},
		{"NUL", &apiv1.AppendRequest{StreamId: "a\x00b"}, 400, "unprintable"},
		{"expected -3", &apiv1.AppendRequest{StreamId: "s", ExpectedVersion: proto.Int64(-3)}, 400, "expected version -3"},
		{"expected -5", &apiv1.AppendRequest{StreamId: "s", ExpectedVersion: proto.Int64(-5)}, 400, "expected version -5"},
		{"expected least", &apiv1.AppendRequest{StreamId: "s", ExpectedVersion: proto.Int64(math.MinInt64)}, 400, "want 0 or more"},
		{"no events", &apiv1.AppendRequest{StreamId: "s"}, 400, "\"events\" is empty"},
		{"too many events", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(nil), event1(nil), event1(nil), event1(nil)}}, 413, "4 events: one write holds at most 3"},
		{"nil event", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{nil}}, 400, "event_type is empty"},
		{"no type", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.EventType = "" })}}, 400, "events[0]: the event_type is empty"},
		{"long type", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(nil), event1(func(e *apiv1.ProposedEvent) { e.EventType = long })}}, 400, "events[1]: the event_type has 256 bytes"},
		{"long event id", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.EventId = long })}}, 400, "event_id has 256"},
		{"same event id", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{
			event1(func(e *apiv1.ProposedEvent) { e.EventId = "x" }), event1(func(e *apiv1.ProposedEvent) { e.EventId = "x" }),
		}}, 400, "is that of events[0]"},
		{"no data", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.Data = nil })}}, 400, "data is missing"},
		{"data no JSON", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.Data = []byte("{") })}}, 400, "not a JSON value"},
		{"data two values", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.Data = []byte("1 2") })}}, 400, "not a JSON value"},
		{"data bad UTF-8", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.Data = []byte("\"\xff\"") })}}, 400, "not a JSON value"},
		{"metadata array", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.Metadata = []byte("[]") })}}, 400, "metadata is not a JSON object"},
		{"empty tag", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.Tags = []string{"a", ""} })}}, 400, "tags[1]: the tag is empty"},
		{"many tags", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.Tags = make([]string, MaxTags+1) })}}, 400, "65 tags"},
		{"large event", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(func(e *apiv1.ProposedEvent) { e.Data, e.Binary = make([]byte, 100), true })}}, 413, "one event holds at most 100"},
		{"large write", &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{
			event1(func(e *apiv1.ProposedEvent) { e.Data, e.Binary = make([]byte, 80), true }), event1(func(e *apiv1.ProposedEvent) { e.Data, e.Binary = make([]byte, 80), true }),
		}}, 413, "one write holds at most 150"},
		{"long key", &apiv1.AppendRequest{StreamId: "s", IdempotencyKey: long, Events: []*apiv1.ProposedEvent{event1(nil)}}, 400, "Idempotency-Key has 256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Append(c.req, small, [16]byte{}, 1)
			var p *Problem
			if !errors.As(err, &p) || p.Status() != c.status || !strings.Contains(p.Error(), c.want) {
				t.Fatalf("got %v, want %d …%s…", err, c.status, c.want)
			}
			if !strings.HasPrefix(p.Error(), "append ") {
				t.Fatalf("%q does not say what was attempted", p.Error())
			}
		})
	}
}

func TestAppendTakes(t *testing.T) {
	for name, e := range map[string]*apiv1.ProposedEvent{
		"null":           event1(func(e *apiv1.ProposedEvent) { e.Data = []byte("null") }),
		"scalar":         event1(func(e *apiv1.ProposedEvent) { e.Data = []byte(" 12345678901234567890.5e-3 ") }),
		"empty binary":   event1(func(e *apiv1.ProposedEvent) { e.Data, e.Binary = nil, true }),
		"binary no JSON": event1(func(e *apiv1.ProposedEvent) { e.Data, e.Binary = []byte{0xff, 0}, true }),
		"metadata":       event1(func(e *apiv1.ProposedEvent) { e.Metadata = []byte(" \n{\"a\":1}") }),
	} {
		for _, expected := range []int64{-4, -2, -1, 0, math.MaxInt64} {
			req := &apiv1.AppendRequest{StreamId: "stream/ü {tag}", ExpectedVersion: &expected, Events: []*apiv1.ProposedEvent{e}}
			w, err := Append(req, DefaultLimits(), [16]byte{1}, 7)
			if err != nil {
				t.Fatalf("%s, expected %d: %v", name, expected, err)
			}
			if w.GetExpectedVersion() != expected || !bytes.Equal(w.GetEvents()[0].GetData(), e.GetData()) || w.GetRequestedAtMs() != 7 {
				t.Fatalf("%s: got %v", name, w)
			}
		}
	}
	w, err := Append(&apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{event1(nil)}}, DefaultLimits(), [16]byte{}, 1)
	if err != nil || w.GetExpectedVersion() != Any {
		t.Fatalf("without an expected version: %v, %v; want any", w.GetExpectedVersion(), err)
	}
}

func TestDelete(t *testing.T) {
	for mode, want := range map[string]eventsv1.CommandKind{
		"": eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE, "soft": eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE, "tombstone": eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE,
	} {
		w, err := Delete(&apiv1.DeleteStreamRequest{StreamId: "s", Mode: mode}, [16]byte{9}, 1)
		if err != nil || w.GetKind() != want {
			t.Fatalf("mode %q: %v, %v", mode, w.GetKind(), err)
		}
	}
	if _, err := Delete(&apiv1.DeleteStreamRequest{StreamId: "s", Mode: "hard"}, [16]byte{}, 1); err == nil {
		t.Fatal("mode hard was taken")
	}
}

// A retry has the same identity, hash and event ids; anything else does not.
func TestRetriesAreRecognised(t *testing.T) {
	req := func() *apiv1.AppendRequest {
		return &apiv1.AppendRequest{StreamId: "s", IdempotencyKey: "k", ExpectedVersion: proto.Int64(3), Events: []*apiv1.ProposedEvent{
			event1(nil), event1(func(e *apiv1.ProposedEvent) { e.Metadata, e.Tags = []byte(`{}`), []string{"a", "b"} }),
		}}
	}
	build := func(r *apiv1.AppendRequest, random byte) *eventsv1.StreamWriteRequested {
		w, err := Append(r, DefaultLimits(), [16]byte{random}, int64(random))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	first, retry := build(req(), 1), build(req(), 2)
	if len(first.GetWriteId()) != 32 || first.GetWriteId() != retry.GetWriteId() || !bytes.Equal(first.GetBodyHash(), retry.GetBodyHash()) {
		t.Fatalf("a retry is not recognised: %v, %v", first, retry)
	}
	for i := range first.GetEvents() {
		if first.GetEvents()[i].GetEventId() != retry.GetEvents()[i].GetEventId() {
			t.Fatalf("event %d of a retry has another id", i)
		}
	}
	for name, change := range map[string]func(*apiv1.AppendRequest){
		"expected version": func(r *apiv1.AppendRequest) { r.ExpectedVersion = proto.Int64(4) },
		"type":             func(r *apiv1.AppendRequest) { r.Events[0].EventType = "Other" },
		"data":             func(r *apiv1.AppendRequest) { r.Events[0].Data = []byte(`{"a":1}`) },
		"binary":           func(r *apiv1.AppendRequest) { r.Events[0].Binary = true },
		"metadata":         func(r *apiv1.AppendRequest) { r.Events[0].Metadata = []byte(`{}`) },
		"event id":         func(r *apiv1.AppendRequest) { r.Events[0].EventId = "given" },
		"tags":             func(r *apiv1.AppendRequest) { r.Events[1].Tags = []string{"ab"} },
		"fewer":            func(r *apiv1.AppendRequest) { r.Events = r.Events[:1] },
	} {
		r := req()
		change(r)
		other := build(r, 1)
		if other.GetWriteId() != first.GetWriteId() {
			t.Errorf("%s: the write_id changed", name)
		}
		if bytes.Equal(other.GetBodyHash(), first.GetBodyHash()) {
			t.Errorf("%s: the body hash did not change", name)
		}
	}
	unkeyed := req()
	unkeyed.IdempotencyKey = ""
	if a, b := build(unkeyed, 1), build(unkeyed, 2); a.GetWriteId() == b.GetWriteId() || a.GetEvents()[0].GetEventId() == b.GetEvents()[0].GetEventId() {
		t.Fatal("two writes without a key have the same identity")
	}
	if id := first.GetEvents()[0].GetEventId(); len(id) != 36 || id[14] != '8' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Fatalf("event id %q is not a UUIDv8", id)
	}
	// Without a key: UUIDv7 of the write's time, in the order of the events, each its own.
	chance := func(last byte) *eventsv1.StreamWriteRequested {
		w, err := Append(unkeyed, DefaultLimits(), [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x70, 15: last}, 1)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	ids := []string{chance(1).GetEvents()[0].GetEventId(), chance(1).GetEvents()[1].GetEventId(), chance(2).GetEvents()[0].GetEventId()}
	for _, id := range ids {
		if len(id) != 36 || !strings.HasPrefix(id, "01234567-89ab-7") || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Errorf("event id %q is not the UUIDv7 of that time", id)
		}
	}
	if ids[0] >= ids[1] || ids[0] == ids[2] || !strings.HasPrefix(chance(1).GetWriteId(), "0123456789ab") {
		t.Errorf("event ids %v of write %s", ids, chance(1).GetWriteId())
	}
	if writeID("a", "bc") == writeID("ab", "c") {
		t.Fatal("stream and key run together")
	}
}

func TestRejectionsBecomeProblems(t *testing.T) {
	for reason, want := range map[eventsv1.RejectReason]int{
		eventsv1.RejectReason_REJECT_REASON_WRONG_EXPECTED_VERSION: 412,
		eventsv1.RejectReason_REJECT_REASON_STREAM_TOMBSTONED:      410,
		eventsv1.RejectReason_REJECT_REASON_KEY_REUSED:             422,
		eventsv1.RejectReason_REJECT_REASON_EVENT_ID_EXISTS:        422,
		eventsv1.RejectReason_REJECT_REASON_INVALID:                400,
		eventsv1.RejectReason_REJECT_REASON_TOO_LARGE:              413,
		eventsv1.RejectReason_REJECT_REASON_STREAM_NOT_FOUND:       404,
		eventsv1.RejectReason_REJECT_REASON_NO_QUORUM:              503,
		eventsv1.RejectReason_REJECT_REASON_NOT_READY:              503,
		eventsv1.RejectReason_REJECT_REASON_UNSPECIFIED:            500,
	} {
		p := Rejected("append", &eventsv1.WriteRejected{Reason: reason, StreamId: "s", WriteId: "w", ExpectedVersion: 3, ActualVersion: 4, Message: "why"})
		if p.Status() != want || p.Wire.GetStreamId() != "s" || p.Wire.GetWriteId() != "w" || p.Wire.GetType() == "" || p.Wire.GetTitle() == "" {
			t.Errorf("%v: %v, want %d", reason, p.Wire, want)
		}
		if (want == 503) != (p.Wire.GetRetryAfter() > 0) {
			t.Errorf("%v: retry after %d", reason, p.Wire.GetRetryAfter())
		}
		if (want == 412) != (p.Wire.ExpectedVersion != nil && p.Wire.GetActualVersion() == 4) {
			t.Errorf("%v: versions %v", reason, p.Wire)
		}
	}
	if len(eventsv1.RejectReason_name) != 10 {
		t.Error("a new reject reason needs its problem")
	}
}

func TestLimitsStayBelowTheBus(t *testing.T) {
	// What encodes a full write of small events must fit into a record of 8 MiB.
	limits := DefaultLimits()
	req := &apiv1.AppendRequest{StreamId: strings.Repeat("s", MaxStreamID)}
	for range limits.WriteEvents {
		req.Events = append(req.Events, &apiv1.ProposedEvent{EventType: "t", Data: make([]byte, limits.WriteBytes/limits.WriteEvents-70), Binary: true, Tags: strings.Split(strings.Repeat("x", 64), "")})
	}
	w, err := Append(req, limits, [16]byte{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := proto.Size(w); n > 7<<20 {
		t.Fatalf("the request has %d bytes", n)
	}
}

func TestBodyHashIsInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) *eventsv1.StreamWriteRequested {
			w := &eventsv1.StreamWriteRequested{StreamId: rapid.SampledFrom([]string{"a", "ab"}).Draw(t, label)}
			for range rapid.IntRange(0, 2).Draw(t, label) {
				w.Events = append(w.Events, &eventsv1.NewEvent{
					EventId: rapid.SampledFrom([]string{"", "a"}).Draw(t, label), EventType: rapid.SampledFrom([]string{"", "a", "aa"}).Draw(t, label),
					Data: []byte(rapid.SampledFrom([]string{"", "a"}).Draw(t, label)), Tags: rapid.SliceOfN(rapid.SampledFrom([]string{"", "a"}), 0, 2).Draw(t, label),
				})
			}
			return w
		}
		a, b := draw("a"), draw("b")
		if bytes.Equal(bodyHash(a), bodyHash(b)) != proto.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
	})
}
