package api

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// writer appends JSON. Numbers of 64 bits are numbers; data and metadata are raw.
type writer struct {
	out   []byte
	comma bool
	// oneLine turns line breaks between the tokens of raw values into spaces, for
	// formats that end a frame at a line break.
	oneLine bool
}

func (w *writer) open(c byte) {
	if w.comma {
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, c)
	w.comma = false
}

func (w *writer) close(c byte) {
	w.out = append(w.out, c)
	w.comma = true
}

func (w *writer) name(name string) {
	if w.comma {
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, '"')
	w.out = append(w.out, name...)
	w.out = append(w.out, '"', ':')
	w.comma = false
}

func (w *writer) str(name, v string) {
	w.name(name)
	w.text(v)
}

func (w *writer) text(v string) {
	if w.comma {
		w.out = append(w.out, ',')
	}
	w.out = appendString(w.out, v)
	w.comma = true
}

// optional writes a text that is not empty.
func (w *writer) optional(name, v string) {
	if v != "" {
		w.str(name, v)
	}
}

func (w *writer) number(name string, v int64) {
	w.name(name)
	w.out = strconv.AppendInt(w.out, v, 10)
	w.comma = true
}

func (w *writer) boolean(name string, v bool) {
	w.name(name)
	w.out = strconv.AppendBool(w.out, v)
	w.comma = true
}

// raw writes JSON as it is.
func (w *writer) raw(name string, v []byte) {
	w.name(name)
	start := len(w.out)
	w.out = append(w.out, v...)
	if w.oneLine {
		for i, c := range w.out[start:] {
			if c == '\n' || c == '\r' { // in valid JSON only between tokens
				w.out[start+i] = ' '
			}
		}
	}
	w.comma = true
}

func (w *writer) binary(name string, v []byte) {
	w.name(name)
	w.out = append(w.out, '"')
	w.out = base64.StdEncoding.AppendEncode(w.out, v)
	w.out = append(w.out, '"')
	w.comma = true
}

func (w *writer) texts(name string, vs []string) {
	w.name(name)
	w.open('[')
	for _, v := range vs {
		w.text(v)
	}
	w.close(']')
}

const hexDigits = "0123456789abcdef"

func appendString(out []byte, v string) []byte {
	out = append(out, '"')
	for i := 0; i < len(v); {
		c := v[i]
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20 || c == 0x7f:
			out = append(out, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			out = append(out, c)
		default:
			r, n := utf8.DecodeRuneInString(v[i:])
			out = utf8.AppendRune(out, r)
			i += n
			continue
		}
		i++
	}
	return append(out, '"')
}

// message writes one of the API's responses.
func (w *writer) message(v any) error {
	w.open('{')
	switch m := v.(type) {
	case *apiv1.AppendResponse:
		w.str("stream_id", m.GetStreamId())
		w.str("write_id", m.GetWriteId())
		w.number("first_version", m.GetFirstVersion())
		w.number("new_version", m.GetNewVersion())
		w.str("position", m.GetPosition())
		w.texts("event_ids", m.GetEventIds())
	case *apiv1.ReadStreamResponse:
		w.events(m.GetEvents())
		w.number("stream_version", m.GetStreamVersion())
		w.number("next_version", m.GetNextVersion())
		w.boolean("has_more", m.GetHasMore())
	case *apiv1.ReadAllResponse:
		w.events(m.GetEvents())
		w.str("next_position", m.GetNextPosition())
		w.boolean("has_more", m.GetHasMore())
	case *apiv1.Event:
		w.event(m)
	case *apiv1.GetStreamResponse:
		w.stream(m)
	case *apiv1.DeleteStreamResponse:
		w.str("stream_id", m.GetStreamId())
		w.str("write_id", m.GetWriteId())
		w.number("version", m.GetVersion())
		w.str("position", m.GetPosition())
	case *apiv1.ListStreamsResponse:
		w.name("streams")
		w.open('[')
		for _, s := range m.GetStreams() {
			w.open('{')
			w.stream(s)
			w.close('}')
		}
		w.close(']')
		w.str("next_page_token", m.GetNextPageToken())
	case *apiv1.Marker:
		w.str("position", m.GetPosition())
	case *apiv1.Problem:
		w.problem(m)
	case *apiv1.GetSystemResponse:
		w.system(m)
	default:
		return typeError("write", v)
	}
	w.close('}')
	return nil
}

func (w *writer) events(events []*apiv1.Event) {
	w.name("events")
	w.open('[')
	for _, e := range events {
		w.open('{')
		w.event(e)
		w.close('}')
	}
	w.close(']')
}

func (w *writer) event(e *apiv1.Event) {
	w.str("event_id", e.GetEventId())
	w.str("event_type", e.GetEventType())
	w.str("stream_id", e.GetStreamId())
	w.number("version", e.GetVersion())
	w.str("position", e.GetPosition())
	switch {
	case e.GetBinary():
		w.binary("data_base64", e.GetData())
	case len(e.GetData()) > 0:
		w.raw("data", e.GetData())
	}
	if len(e.GetMetadata()) > 0 {
		w.raw("metadata", e.GetMetadata())
	}
	if len(e.GetTags()) > 0 {
		w.texts("tags", e.GetTags())
	}
	w.str("created_at", time.UnixMilli(e.GetCreatedAtMs()).UTC().Format("2006-01-02T15:04:05.000Z"))
	w.number("created_at_ms", e.GetCreatedAtMs())
}

func (w *writer) stream(s *apiv1.GetStreamResponse) {
	w.str("stream_id", s.GetStreamId())
	w.number("version", s.GetVersion())
	w.number("count", s.GetCount())
}

func (w *writer) problem(p *apiv1.Problem) {
	w.str("type", p.GetType())
	w.str("title", p.GetTitle())
	w.number("status", int64(p.GetStatus()))
	w.str("detail", p.GetDetail())
	w.optional("stream_id", p.GetStreamId())
	if p.ExpectedVersion != nil {
		w.number("expected_version", p.GetExpectedVersion())
	}
	if p.ActualVersion != nil {
		w.number("actual_version", p.GetActualVersion())
	}
	w.optional("write_id", p.GetWriteId())
	if p.GetRetryAfter() > 0 {
		w.number("retry_after", int64(p.GetRetryAfter()))
	}
}

func (w *writer) system(m *apiv1.GetSystemResponse) {
	w.str("store_id", m.GetStoreId())
	w.number("shards", int64(m.GetShards()))
	w.boolean("ready", m.GetReady())
	w.texts("missing", m.GetMissing())
	w.name("nodes")
	w.open('[')
	for _, n := range m.GetNodes() {
		w.open('{')
		w.str("node", n.GetNode())
		w.str("system", n.GetSystem())
		w.str("version", n.GetVersion())
		w.str("address", n.GetAddress())
		w.boolean("ready", n.GetReady())
		w.number("last_heard_ms", n.GetLastHeardMs())
		w.name("shards")
		w.open('[')
		for _, s := range n.GetShards() {
			w.open('{')
			w.number("shard", int64(s.GetShard()))
			w.number("log_offset", s.GetLogOffset())
			w.boolean("caught_up", s.GetCaughtUp())
			w.boolean("leads", s.GetLeads())
			w.close('}')
		}
		w.close(']')
		w.close('}')
	}
	w.close(']')
	w.name("leaders")
	w.open('[')
	for _, l := range m.GetLeaders() {
		w.open('{')
		w.str("role", l.GetRole())
		w.number("shard", int64(l.GetShard()))
		w.str("node", l.GetNode())
		w.number("term", l.GetTerm())
		w.close('}')
	}
	w.close(']')
	w.str("version", m.GetVersion())
}
