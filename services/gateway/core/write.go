package core

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Append turns a client's request into a request to the store, or says what is
// wrong with it. random is a fresh UUIDv7, used when there is no idempotency key;
// nowMS is in milliseconds since the Unix epoch. The bytes of data and metadata
// are taken over, not copied.
func Append(req *apiv1.AppendRequest, limits Limits, random [16]byte, nowMS int64) (*eventsv1.StreamWriteRequested, error) {
	attempt := AppendAttempt(req.GetStreamId(), len(req.GetEvents()))
	w, err := write(attempt, req.GetStreamId(), eventsv1.CommandKind_COMMAND_KIND_APPEND, req.ExpectedVersion, req.GetIdempotencyKey(), random, nowMS)
	if err != nil {
		return nil, err
	}
	switch n := len(req.GetEvents()); {
	case n == 0:
		return nil, Malformed("%s: \"events\" is empty: want 1 to %d events", attempt, limits.WriteEvents).About(w.StreamId)
	case n > limits.WriteEvents:
		return nil, TooLarge("%s: %d events: one write holds at most %d; split it", attempt, n, limits.WriteEvents).About(w.StreamId)
	}
	total := 0
	ids := make(map[string]int, len(req.GetEvents()))
	w.Events = make([]*eventsv1.NewEvent, len(req.GetEvents()))
	for i, e := range req.GetEvents() {
		if problem := event(e, limits); problem != nil {
			problem.Wire.Detail = fmt.Sprintf("%s: events[%d]: %s", attempt, i, problem.Wire.GetDetail())
			return nil, problem.About(w.StreamId)
		}
		total += eventBytes(e)
		if id := e.GetEventId(); id != "" {
			if first, twice := ids[id]; twice {
				return nil, Malformed("%s: events[%d].event_id %q is that of events[%d]: every event needs its own", attempt, i, id, first).About(w.StreamId)
			}
			ids[id] = i
		}
		w.Events[i] = &eventsv1.NewEvent{
			EventId: e.GetEventId(), EventType: e.GetEventType(), Data: e.GetData(), Binary: e.GetBinary(),
			Metadata: e.GetMetadata(), Tags: e.GetTags(),
		}
	}
	if total > limits.WriteBytes {
		return nil, TooLarge("%s: %d bytes: one write holds at most %d; split it", attempt, total, limits.WriteBytes).About(w.StreamId)
	}
	w.BodyHash = bodyHash(w)
	var time []byte
	if req.GetIdempotencyKey() == "" {
		time = random[:6]
	}
	for i, e := range w.Events {
		if e.EventId == "" {
			e.EventId = eventID(w.WriteId, i, time)
		}
	}
	return w, nil
}

// Delete turns a client's delete into a request to the store, as Append does.
func Delete(req *apiv1.DeleteStreamRequest, random [16]byte, nowMS int64) (*eventsv1.StreamWriteRequested, error) {
	attempt := DeleteAttempt(req.GetStreamId())
	var kind eventsv1.CommandKind
	switch req.GetMode() {
	case "", "soft":
		kind = eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE
	case "tombstone":
		kind = eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE
	default:
		return nil, Malformed("%s: mode %q: want \"soft\" or \"tombstone\"", attempt, req.GetMode()).About(req.GetStreamId())
	}
	w, err := write(attempt, req.GetStreamId(), kind, req.ExpectedVersion, req.GetIdempotencyKey(), random, nowMS)
	if err != nil {
		return nil, err
	}
	w.BodyHash = bodyHash(w)
	return w, nil
}

// AppendAttempt says in errors what was attempted. Every append asks for it, so it costs one allocation.
func AppendAttempt(stream string, events int) string {
	b := strconv.AppendInt(append(make([]byte, 0, 64+len(stream)), "append "...), int64(events), 10)
	b = append(b, " event"...)
	if events != 1 {
		b = append(b, 's')
	}
	return string(appendQuote(append(b, " to stream "...), stream))
}

// DeleteAttempt says in errors what was attempted.
func DeleteAttempt(stream string) string { return "delete stream " + Quote(stream) }

// Quote shows a client's text in an error: quoted, and shortened.
func Quote(s string) string { return string(appendQuote(nil, s)) }

func appendQuote(b []byte, s string) []byte {
	const most = 80
	if len(s) > most {
		return fmt.Appendf(strconv.AppendQuote(b, s[:most]), "… (%d bytes)", len(s))
	}
	return strconv.AppendQuote(b, s)
}

func write(attempt, stream string, kind eventsv1.CommandKind, expected *int64, key string, random [16]byte, nowMS int64) (*eventsv1.StreamWriteRequested, error) {
	if err := StreamID(attempt, stream); err != nil {
		return nil, err
	}
	version := Any
	if expected != nil {
		version = *expected
	}
	if err := ExpectedVersion(version); err != nil {
		return nil, Malformed("%s: %v", attempt, err).About(stream)
	}
	id := hex.EncodeToString(random[:])
	if key != "" {
		if err := name("Idempotency-Key", key, MaxKey); err != nil {
			return nil, Malformed("%s: %v", attempt, err).About(stream)
		}
		id = writeID(stream, key)
	}
	return &eventsv1.StreamWriteRequested{
		StreamId: stream, ExpectedVersion: version, WriteId: id, Kind: kind, RequestedAtMs: nowMS,
	}, nil
}

// StreamID checks a stream id: 1 to 255 bytes of printable UTF-8.
func StreamID(attempt, stream string) error {
	if err := name("stream id", stream, MaxStreamID); err != nil {
		return Malformed("%s: %v", attempt, err).About(strings.ToValidUTF8(stream, "\ufffd"))
	}
	return nil
}

// ExpectedVersion checks that an expected version has a meaning.
func ExpectedVersion(v int64) error {
	if v < 0 && v != NoStream && v != Any && v != StreamExists {
		return fmt.Errorf("expected version %d: want 0 or more (exact), -1 (no stream), -2 (any) or -4 (stream exists)", v)
	}
	return nil
}

// name checks a text that becomes a key: 1 to most bytes of printable UTF-8.
func name(what, s string, most int) error {
	switch {
	case s == "":
		return fmt.Errorf("the %s is empty: want 1 to %d bytes", what, most)
	case len(s) > most:
		return fmt.Errorf("the %s has %d bytes: want 1 to %d", what, len(s), most)
	case !utf8.ValidString(s):
		return fmt.Errorf("the %s is not valid UTF-8", what)
	}
	for i, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("the %s has the unprintable character %U at byte %d: want printable text", what, r, i)
		}
	}
	return nil
}

// event says what is wrong with one event; nil is nothing.
func event(e *apiv1.ProposedEvent, limits Limits) *Problem {
	if err := name("event_type", e.GetEventType(), MaxEventType); err != nil {
		return Malformed("%v", err)
	}
	if e.GetEventId() != "" {
		if err := name("event_id", e.GetEventId(), MaxEventID); err != nil {
			return Malformed("%v", err)
		}
	}
	if n := eventBytes(e); n > limits.EventBytes {
		return TooLarge("%d bytes: one event holds at most %d", n, limits.EventBytes)
	}
	if len(e.GetTags()) > MaxTags {
		return Malformed("%d tags: want at most %d", len(e.GetTags()), MaxTags)
	}
	for i, tag := range e.GetTags() {
		if err := name("tag", tag, MaxTag); err != nil {
			return Malformed("tags[%d]: %v", i, err)
		}
	}
	if !e.GetBinary() {
		if len(e.GetData()) == 0 {
			return Malformed("data is missing: want any JSON value (null and {} are), or binary data (\"data_base64\" in JSON)")
		}
		if !json.Valid(e.GetData()) || !utf8.Valid(e.GetData()) {
			return Malformed("data is not a JSON value in UTF-8: mend it, or send it as binary (\"data_base64\" in JSON)")
		}
	}
	if m := e.GetMetadata(); len(m) > 0 && !jsonObject(m) {
		return Malformed("metadata is not a JSON object in UTF-8")
	}
	return nil
}

// eventBytes is what an event counts against the limits.
func eventBytes(e *apiv1.ProposedEvent) int {
	n := len(e.GetEventId()) + len(e.GetEventType()) + len(e.GetData()) + len(e.GetMetadata())
	for _, tag := range e.GetTags() {
		n += len(tag)
	}
	return n
}

func jsonObject(b []byte) bool {
	trimmed := bytes.TrimLeft(b, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(b) && utf8.Valid(b)
}

// writeID is the identity of the write with that key: 128 bits in hex.
func writeID(stream, key string) string {
	id := sha256.Sum256(put(put(put(nil, "exesdb write"), stream), key))
	return hex.EncodeToString(id[:16])
}

// eventID is the id of an event to which the client gave none. It follows from its write and
// place, so that a retry makes the same: of a write with a key a UUIDv8 that tells nothing, of
// one without a UUIDv7 with the write's time (48 bits, as its id begins), so that the events
// of a write sort by their place.
func eventID(writeID string, index int, time []byte) string {
	var scratch [96]byte
	hash := sha256.Sum256(putInt(put(put(scratch[:0], "exesdb event"), writeID), int64(index)))
	id := hash[:16]
	version := byte(0x80)
	if time != nil {
		copy(id, time)
		binary.BigEndian.PutUint16(id[6:], uint16(index)) //nolint:gosec // the lower bits; the hash tells the others
		version = 0x70
	}
	id[6] = id[6]&0x0f | version
	id[8] = id[8]&0x3f | 0x80
	var text [36]byte
	at := 0
	for i, n := range [...]int{4, 2, 2, 2, 6} {
		if i > 0 {
			text[at] = '-'
			at++
		}
		at += hex.Encode(text[at:], id[:n])
		id = id[n:]
	}
	return string(text[:])
}

// bodyHash tells a retry from a reused key: SHA-256 over what the client sent,
// every part with its length in front. Event ids are those that the client gave.
func bodyHash(w *eventsv1.StreamWriteRequested) []byte {
	size := 256
	for _, e := range w.GetEvents() {
		size += 128 + len(e.GetData()) + len(e.GetMetadata())
	}
	b := put(put(make([]byte, 0, size), "exesdb body 1"), w.GetStreamId())
	b = putInt(b, int64(w.GetKind()))
	b = putInt(b, w.GetExpectedVersion())
	b = putInt(b, int64(len(w.GetEvents())))
	for _, e := range w.GetEvents() {
		b = put(put(b, e.GetEventId()), e.GetEventType())
		kind := int64(0)
		if e.GetBinary() {
			kind = 1
		}
		b = putInt(b, kind)
		b = put(put(b, e.GetData()), e.GetMetadata())
		b = putInt(b, int64(len(e.GetTags())))
		for _, tag := range e.GetTags() {
			b = put(b, tag)
		}
	}
	hash := sha256.Sum256(b)
	return hash[:]
}

// put appends a part of what is hashed, with its length in front.
func put[T string | []byte](b []byte, part T) []byte {
	return append(putInt(b, int64(len(part))), part...)
}

func putInt(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(v)) //nolint:gosec // the bits count
}
