package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/position"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

const oneEvent = `{"events":[{"event_type":"T","data":1}]}`

// Every way in which a request can be wrong, with its status, its type and what the detail says.
func TestRESTErrors(t *testing.T) {
	type setup func(*edge)
	event := func(e string) string { return `{"events":[` + e + `]}` }
	for _, c := range []struct {
		name         string
		setup        setup
		method, path string
		body         string
		headers      []string
		status       int
		kind, detail string
	}{
		{"no such path", nil, "GET", "/v1/nothing", "", nil, 404, "no-such-path", "no such path"},
		{"trailing slash", nil, "GET", "/v1/streams/s/events/", "", nil, 404, "no-such-path", ""},
		{"method", nil, "PUT", "/v1/streams/s/events", "", nil, 405, "method-not-allowed", ""},
		{"method of help", nil, "POST", "/", "", nil, 405, "method-not-allowed", ""},
		{"empty stream id", nil, "POST", "/v1/streams//events", oneEvent, nil, 400, "malformed-request", "stream id is empty"},
		{"unprintable stream id", nil, "GET", "/v1/streams/a%00b/events", "", nil, 400, "malformed-request", "unprintable"},
		{"stream id bad UTF-8", nil, "GET", "/v1/streams/a%FFb/events", "", nil, 400, "malformed-request", "UTF-8"},
		{"long stream id", nil, "GET", "/v1/streams/" + strings.Repeat("a", 256), "", nil, 400, "malformed-request", "256 bytes"},
		{"no body", nil, "POST", "/v1/streams/s/events", "", nil, 400, "malformed-request", "append to stream \"s\": body, at offset 0: want an object, found the end of the body"},
		{"cut body", nil, "POST", "/v1/streams/s/events", `{"events":[`, nil, 400, "malformed-request", "field events[0], at offset 11: want an object, found the end"},
		{"unknown field", nil, "POST", "/v1/streams/s/events", `{"event":[]}`, nil, 400, "malformed-request", `at offset 1: unknown field "event": want expected_version, events or idempotency_key`},
		{"unknown event field", nil, "POST", "/v1/streams/s/events", event(`{"type":"T"}`), nil, 400, "malformed-request", `field events[0], at offset 12: unknown field "type"`},
		{"repeated field", nil, "POST", "/v1/streams/s/events", `{"events":[],"events":[]}`, nil, 400, "malformed-request", `at offset 13: field "events" occurs twice`},
		{"repeated event field", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","event_type":"T"}`), nil, 400, "malformed-request", `occurs twice`},
		{"wrong type", nil, "POST", "/v1/streams/s/events", `{"expected_version":"3"}`, nil, 400, "malformed-request", "field expected_version, at offset 20: want a whole number, found a string"},
		{"fraction", nil, "POST", "/v1/streams/s/events", `{"expected_version":3.5}`, nil, 400, "malformed-request", "whole number of 64 bits, found 3.5"},
		{"over 64 bits", nil, "POST", "/v1/streams/s/events", `{"expected_version":9223372036854775808}`, nil, 400, "malformed-request", "64 bits"},
		{"events no array", nil, "POST", "/v1/streams/s/events", `{"events":{}}`, nil, 400, "malformed-request", "field events, at offset 10: want an array of events, found an object"},
		{"type no string", nil, "POST", "/v1/streams/s/events", event(`{"event_type":7}`), nil, 400, "malformed-request", "field events[0].event_type, at offset 25: want a string, found a number"},
		{"tags no strings", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","data":1,"tags":["a",2]}`), nil, 400, "malformed-request", "field events[0].tags[1]"},
		{"metadata no object", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","data":1,"metadata":[]}`), nil, 400, "malformed-request", "want an object, found an array"},
		{"both data", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","data":1,"data_base64":""}`), nil, 400, "malformed-request", "want one of them"},
		{"bad base64", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","data_base64":"*"}`), nil, 400, "malformed-request", "not standard base64"},
		{"bad number", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","data":01}`), nil, 400, "malformed-request", "want ',' or '}'"},
		{"bad literal", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","data":tru}`), nil, 400, "malformed-request", "field events[0].data"},
		{"half a pair", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"\ud800","data":1}`), nil, 400, "malformed-request", "surrogate"},
		{"control character", nil, "POST", "/v1/streams/s/events", event("{\"event_type\":\"a\tb\",\"data\":1}"), nil, 400, "malformed-request", "control character"},
		{"trailing text", nil, "POST", "/v1/streams/s/events", oneEvent + " x", nil, 400, "malformed-request", "want the end of the body, found 'x'"},
		{"bad UTF-8", nil, "POST", "/v1/streams/s/events", event("{\"event_type\":\"a\xff\"}"), nil, 400, "malformed-request", "at offset 27: bad UTF-8"},
		{"no events", nil, "POST", "/v1/streams/s/events", `{}`, nil, 400, "malformed-request", "\"events\" is empty"},
		{"no data", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T"}`), nil, 400, "malformed-request", "data is missing"},
		{"no type", nil, "POST", "/v1/streams/s/events", event(`{"data":1}`), nil, 400, "malformed-request", "event_type is empty"},
		{"query of append", nil, "POST", "/v1/streams/s/events?x=1", oneEvent, nil, 400, "malformed-request", "unknown query parameter \"x\": it takes none"},
		{"unknown query", nil, "GET", "/v1/streams/s/events?from=1", "", nil, 400, "malformed-request", "unknown query parameter \"from\": want from_version"},
		{"query twice", nil, "GET", "/v1/streams/s/events?limit=1&limit=2", "", nil, 400, "malformed-request", "2 times"},
		{"query no number", nil, "GET", "/v1/streams/s/events?limit=x", "", nil, 400, "malformed-request", "limit"},
		{"bad query", nil, "GET", "/v1/streams/s/events?limit=%zz", "", nil, 400, "malformed-request", "query is malformed"},
		{"limit", nil, "GET", "/v1/streams/s/events?limit=4097", "", nil, 400, "malformed-request", "want 1 to 4096"},
		{"negative version", nil, "GET", "/v1/streams/s/events?from_version=-1", "", nil, 400, "malformed-request", "want 0 or more"},
		{"direction", nil, "GET", "/v1/streams/s/events?direction=up", "", nil, 400, "malformed-request", "\"forward\" or \"backward\""},
		{"min position", nil, "GET", "/v1/streams/s/events?min_position=x", "", nil, 400, "malformed-request", "min_position"},
		{"position of more shards", nil, "GET", "/v1/events?from_position=" + position.Position{Shard: 9, Offset: 1}.String(), "", nil, 400, "malformed-request", "another store"},
		{"page token", nil, "GET", "/v1/streams?page_token=!", "", nil, 400, "malformed-request", "next_page_token"},
		{"from", nil, "GET", "/v1/subscribe?from=yesterday", "", nil, 400, "malformed-request", "start"},
		{"stream and prefix", nil, "GET", "/v1/subscribe?stream=a&stream_prefix=b", "", nil, 400, "malformed-request", "want one of them"},
		{"accept", nil, "GET", "/v1/subscribe", "", []string{"Accept: image/png"}, 406, "not-acceptable", "text/event-stream"},
		{"If-Match unquoted", nil, "POST", "/v1/streams/s/events", oneEvent, []string{"If-Match: 41"}, 400, "malformed-request", "If-Match"},
		{"If-Match weak", nil, "POST", "/v1/streams/s/events", oneEvent, []string{`If-Match: W/"41"`}, 400, "malformed-request", "If-Match"},
		{"If-Match negative", nil, "POST", "/v1/streams/s/events", oneEvent, []string{`If-Match: "-2"`}, 400, "malformed-request", "If-Match"},
		{"If-None-Match version", nil, "POST", "/v1/streams/s/events", oneEvent, []string{`If-None-Match: "1"`}, 400, "malformed-request", "If-None-Match"},
		{"both conditions", nil, "POST", "/v1/streams/s/events", oneEvent, []string{`If-Match: "1"`, "If-None-Match: *"}, 400, "malformed-request", "both"},
		{"header and body", nil, "POST", "/v1/streams/s/events", `{"expected_version":2,` + oneEvent[1:], []string{`If-Match: "1"`}, 400, "malformed-request", "If-Match says version 1, but expected_version says 2"},
		{"two keys", nil, "POST", "/v1/streams/s/events", `{"idempotency_key":"a",` + oneEvent[1:], []string{"Idempotency-Key: b"}, 400, "malformed-request", "idempotency_key says"},
		{"key twice", nil, "POST", "/v1/streams/s/events", oneEvent, []string{"Idempotency-Key: a", "Idempotency-Key: b"}, 400, "malformed-request", "2 times"},
		{"wrong origin", nil, "POST", "/v1/streams/s/events", oneEvent, []string{"Sec-Fetch-Site: cross-site"}, 400, "malformed-request", "another origin"},
		{"no stream", nil, "GET", "/v1/streams/s/events", "", nil, 404, "stream-not-found", `read stream "s"`},
		{"no head", nil, "GET", "/v1/streams/s", "", nil, 404, "stream-not-found", ""},
		{"delete no stream", nil, "DELETE", "/v1/streams/s", "", nil, 404, "stream-not-found", `delete stream "s"`},
		{"delete mode", nil, "DELETE", "/v1/streams/s?mode=hard", "", nil, 400, "malformed-request", "tombstone"},
		{"wrong version", func(e *edge) { e.append("s", 2) }, "POST", "/v1/streams/s/events", oneEvent, []string{`If-Match: "41"`}, 412, "wrong-expected-version", "expected version 41, but the stream is at version 1"},
		{"stream exists", func(e *edge) { e.append("s", 2) }, "POST", "/v1/streams/s/events", oneEvent, []string{"If-None-Match: *"}, 412, "wrong-expected-version", "expected no stream (-1)"},
		{"no stream exists", nil, "POST", "/v1/streams/s/events", oneEvent, []string{"If-Match: *"}, 412, "wrong-expected-version", "there is no such stream"},
		{"tombstoned", func(e *edge) { e.append("s", 1); e.do("DELETE", "/v1/streams/s?mode=tombstone", "") }, "POST", "/v1/streams/s/events", oneEvent, nil, 410, "stream-tombstoned", "deleted for ever"},
		{"tombstoned read", func(e *edge) { e.append("s", 1); e.do("DELETE", "/v1/streams/s?mode=tombstone", "") }, "GET", "/v1/streams/s/events", "", nil, 410, "stream-tombstoned", ""},
		{"tombstoned follow", func(e *edge) { e.append("s", 1); e.do("DELETE", "/v1/streams/s?mode=tombstone", "") }, "GET", "/v1/subscribe?stream=s", "", nil, 410, "stream-tombstoned", ""},
		{"deleted read", func(e *edge) { e.append("s", 1); e.do("DELETE", "/v1/streams/s", "") }, "GET", "/v1/streams/s/events", "", nil, 404, "stream-not-found", ""},
		{"key reused", func(e *edge) {
			e.do("POST", "/v1/streams/s/events", oneEvent, "Idempotency-Key: k")
		}, "POST", "/v1/streams/s/events", strings.Replace(oneEvent, "1", "2", 1), []string{"Idempotency-Key: k"}, 422, "idempotency-key-reused", "use a new key"},
		{"large body", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","data":"` + strings.Repeat("x", 8<<20) + `"}`), nil, 413, "too-large", "larger than 8388608 bytes"},
		{"large event", nil, "POST", "/v1/streams/s/events", event(`{"event_type":"T","data":"` + strings.Repeat("x", 1<<20) + `"}`), nil, 413, "too-large", "one event holds at most"},
		{"busy", func(e *edge) { e.memory.fail = core.Full(7) }, "POST", "/v1/streams/s/events", oneEvent, nil, 429, "too-many-requests", "7 requests are in flight"},
		{"busy read", func(e *edge) { e.memory.fail = core.Full(7) }, "GET", "/v1/events", "", nil, 429, "too-many-requests", ""},
		{"not produced", func(e *edge) { e.memory.fail = core.ErrNotProduced }, "POST", "/v1/streams/s/events", oneEvent, nil, 503, "unavailable", "Nothing was done"},
		{"read not produced", func(e *edge) { e.memory.fail = core.ErrNotProduced }, "GET", "/v1/streams", "", nil, 503, "unavailable", ""},
		{"unknown outcome", func(e *edge) { e.memory.fail = core.ErrNoAnswer }, "POST", "/v1/streams/s/events", oneEvent, []string{"Idempotency-Key: k"}, 504, "outcome-unknown", "retry with the same Idempotency-Key"},
		{"unknown outcome without key", func(e *edge) { e.memory.fail = core.ErrNoAnswer }, "DELETE", "/v1/streams/s", "", nil, 504, "outcome-unknown", "read the stream"},
		{"read timeout", func(e *edge) { e.memory.fail = core.ErrNoAnswer }, "GET", "/v1/streams/s", "", nil, 504, "read-timeout", ""},
		{"fault", func(e *edge) { e.memory.fail = errors.New("secret") }, "GET", "/v1/events", "", nil, 500, "internal", ""},
		{"no quorum", func(e *edge) {
			e.memory.reject = &eventsv1.WriteRejected{Reason: eventsv1.RejectReason_REJECT_REASON_NO_QUORUM, Message: "1 of 3 replicas"}
		}, "POST", "/v1/streams/s/events", oneEvent, nil, 503, "no-quorum", "1 of 3 replicas"},
		{"not ready", func(e *edge) { e.gate.missing = []string{"persistence: not heard"} }, "GET", "/v1/streams", "", nil, 503, "not-ready", "persistence: not heard"},
		{"not ready write", func(e *edge) { e.gate.missing = []string{"store"} }, "POST", "/v1/streams/s/events", oneEvent, nil, 503, "not-ready", "waiting for store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEdge(t, 2)
			if c.setup != nil {
				c.setup(e)
			}
			res, body := e.do(c.method, c.path, c.body, c.headers...)
			var p struct {
				Type, Title, Detail string
				Status              int
				RetryAfter          int    `json:"retry_after"`
				Expected            *int64 `json:"expected_version"`
				Actual              *int64 `json:"actual_version"`
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%d %s: %v", res.StatusCode, body, err)
			}
			if res.StatusCode != c.status || p.Status != c.status || p.Type != c.kind || !strings.Contains(p.Detail, c.detail) || p.Title == "" {
				t.Fatalf("got %d %s\nwant %d %s …%s…", res.StatusCode, body, c.status, c.kind, c.detail)
			}
			if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %q", got)
			}
			if strings.Contains(body, "secret") {
				t.Error("the cause of a fault is shown")
			}
			if c.status == 405 && res.Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if again := c.status == 429 || c.status == 503; again && res.Header.Get("Retry-After") != fmt.Sprint(p.RetryAfter) {
				t.Errorf("Retry-After %q, %s", res.Header.Get("Retry-After"), body)
			}
			if (c.status == 412) != (p.Expected != nil && p.Actual != nil) {
				t.Errorf("versions: %s", body)
			}
		})
	}
}

func TestRESTRoundTrip(t *testing.T) {
	e := newEdge(t, 1)
	res, body := e.do("POST", "/v1/streams/orders%2F1%252F%20x:y/events",
		`{"expected_version":-1,"events":[{"event_id":"e1","event_type":"Placed","data":{"n": 9007199254740993},"metadata":{"by":"me"},"tags":["a","b"]},{"event_type":"Raw","data_base64":"/wA="}]}`,
		"Idempotency-Key: k1", "X-Request-Id: r-1", "Traceparent: 00-1-2-01")
	if res.StatusCode != 200 || res.Header.Get("ETag") != `"1"` || res.Header.Get("X-Request-Id") != "r-1" || res.Header.Get("Traceparent") != "00-1-2-01" {
		t.Fatalf("%d %s %v", res.StatusCode, body, res.Header)
	}
	var ack struct {
		StreamID string   `json:"stream_id"`
		WriteID  string   `json:"write_id"`
		First    *int64   `json:"first_version"`
		New      *int64   `json:"new_version"`
		Position string   `json:"position"`
		EventIDs []string `json:"event_ids"`
	}
	if err := json.Unmarshal([]byte(body), &ack); err != nil {
		t.Fatal(err)
	}
	if ack.StreamID != "orders/1%2F x:y" || *ack.First != 0 || *ack.New != 1 || len(ack.EventIDs) != 2 || ack.EventIDs[0] != "e1" || len(ack.WriteID) != 32 {
		t.Fatalf("got %s", body)
	}
	if p, err := position.Parse(ack.Position); err != nil || p != (position.Position{Shard: 0, Offset: 0, Index: 1}) {
		t.Fatalf("position %v, %v", p, err)
	}
	// A retry has the same answer, also its position.
	_, again := e.do("POST", "/v1/streams/orders%2F1%252F%20x:y/events",
		`{"expected_version":-1,"events":[{"event_id":"e1","event_type":"Placed","data":{"n": 9007199254740993},"metadata":{"by":"me"},"tags":["a","b"]},{"event_type":"Raw","data_base64":"/wA="}]}`, "Idempotency-Key: k1")
	if again != body {
		t.Fatalf("the retry has another answer:\n%s\n%s", body, again)
	}
	res, body = e.do("GET", "/v1/streams/orders%2F1%252F%20x:y/events", "")
	if res.StatusCode != 200 || res.Header.Get("ETag") != `"1"` || res.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	for _, want := range []string{
		`"data":{"n": 9007199254740993},"metadata":{"by":"me"},"tags":["a","b"]`, `"data_base64":"/wA="`, `"version":0`, `"version":1`, `"stream_id":"orders/1%2F x:y"`,
		`"stream_version":1,"next_version":2,"has_more":false`, `"created_at":"2023-11-14T22:13:20.001Z","created_at_ms":1700000000001`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not in %s", want, body)
		}
	}
	res, body = e.do("HEAD", "/v1/streams/orders%2F1%252F%20x:y", "")
	if res.StatusCode != 200 || res.Header.Get("ETag") != `"1"` || body != "" {
		t.Fatalf("HEAD: %d %q %v", res.StatusCode, body, res.Header)
	}
	if _, body = e.do("GET", "/v1/streams/orders%2F1%252F%20x:y", ""); strings.TrimSpace(body) != `{"stream_id":"orders/1%2F x:y","version":1,"count":2}` {
		t.Fatalf("GET: %s", body)
	}
	res, body = e.do("DELETE", "/v1/streams/orders%2F1%252F%20x:y", "", `If-Match: "1"`)
	if res.StatusCode != 200 || !strings.Contains(body, `"version":1`) {
		t.Fatalf("DELETE: %d %s", res.StatusCode, body)
	}
	if _, body = e.do("GET", "/v1/streams", ""); strings.TrimSpace(body) != `{"streams":[],"next_page_token":""}` {
		t.Fatalf("list after delete: %s", body)
	}
}

func TestRESTHeadersStateTheExpectedVersion(t *testing.T) {
	e := newEdge(t, 1)
	for _, c := range []struct {
		body   string
		header string
		status int
	}{
		{oneEvent, "If-Match: *", 412},
		{oneEvent, "If-None-Match: *", 200},
		{oneEvent, "If-None-Match: *", 412},
		{oneEvent, "If-Match: *", 200},
		{oneEvent, `If-Match: "1"`, 200},
		{`{"expected_version":2,` + oneEvent[1:], `If-Match: "2"`, 200},
		{`{"expected_version":null,` + oneEvent[1:], `If-Match: "2"`, 412},
		{`{"expected_version":-4,` + oneEvent[1:], "If-Match: *", 200},
		{oneEvent, "X-Nothing: 1", 200},
	} {
		if res, body := e.do("POST", "/v1/streams/s/events", c.body, c.header); res.StatusCode != c.status {
			t.Errorf("%s with %s: %d %s, want %d", c.body, c.header, res.StatusCode, body, c.status)
		}
	}
}

func TestRESTPages(t *testing.T) {
	e := newEdge(t, 3)
	for i := range 10 {
		e.append(fmt.Sprintf("s%d", i), 3)
	}
	type page struct {
		Events []struct {
			StreamID string `json:"stream_id"`
			Version  int64
			Position string
		}
		Next    string `json:"next_position"`
		NextV   int64  `json:"next_version"`
		Token   string `json:"next_page_token"`
		HasMore bool   `json:"has_more"`
		Streams []struct {
			StreamID string `json:"stream_id"`
		}
	}
	get := func(path string) page {
		res, body := e.do("GET", path, "")
		var p page
		if err := json.Unmarshal([]byte(body), &p); err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %d %s", path, res.StatusCode, body)
		}
		return p
	}
	seen := map[string]bool{}
	for at, more := "", true; more; {
		p := get("/v1/events?limit=7&from_position=" + at)
		for _, e := range p.Events {
			seen[fmt.Sprint(e.StreamID, e.Version)] = true
		}
		at, more = p.Next, p.HasMore
	}
	if len(seen) != 30 {
		t.Fatalf("%d of 30 events", len(seen))
	}
	// The position of an event resumes after it in every shard.
	first := get("/v1/events?limit=10")
	if rest := get("/v1/events?limit=4096&from_position=" + first.Events[4].Position); len(rest.Events) != 25 || rest.Events[0] != first.Events[5] {
		t.Fatalf("after the fifth of 30 there are %d, first %v", len(rest.Events), rest.Events[0])
	}
	var names []string
	for token := ""; ; {
		p := get("/v1/streams?limit=4&page_token=" + token)
		for _, s := range p.Streams {
			names = append(names, s.StreamID)
		}
		if token = p.Token; token == "" {
			break
		}
	}
	if strings.Join(names, " ") != "s0 s1 s2 s3 s4 s5 s6 s7 s8 s9" {
		t.Fatalf("streams %v", names)
	}
	if p := get("/v1/streams?prefix=s3"); len(p.Streams) != 1 {
		t.Fatalf("prefix: %v", p)
	}
	if p := get("/v1/events?event_type=T1&tag=t1&stream_prefix=s"); len(p.Events) != 10 {
		t.Fatalf("%d events of T1 with t1", len(p.Events))
	}
	if p := get("/v1/events?event_type=T0&event_type=T1"); len(p.Events) != 30 {
		t.Fatalf("%d events of T0 or T1", len(p.Events))
	}
	if p := get("/v1/streams/s1/events?limit=2"); len(p.Events) != 2 || p.NextV != 2 || !p.HasMore {
		t.Fatalf("forward: %v", p)
	}
	if p := get("/v1/streams/s1/events?direction=backward&limit=2"); p.Events[0].Version != 2 || p.NextV != 0 || !p.HasMore {
		t.Fatalf("backward: %v", p)
	}
	if p := get("/v1/streams/s1/events?direction=backward&from_version=0"); len(p.Events) != 1 || p.NextV != -1 || p.HasMore {
		t.Fatalf("backward from 0: %v", p)
	}
	last := get("/v1/streams/s1/events").Events[2].Position
	get("/v1/streams/s1/events?min_position=" + last)
	asked := e.memory.seen[len(e.memory.seen)-1]
	if p, _ := position.Parse(last); asked.GetMinOffset() != p.Offset {
		t.Fatalf("min_position %v became min_offset %d", p, asked.GetMinOffset())
	}
}

func TestRESTExtras(t *testing.T) {
	e := newEdge(t, 1)
	e.gate.missing = []string{"store: not heard"}
	if res, body := e.do("GET", "/v1/system", ""); res.StatusCode != 200 || !strings.Contains(body, `"ready":false,"missing":["store: not heard"]`) || !strings.Contains(body, `"log_offset":1152921504606846976`) || !json.Valid([]byte(body)) {
		t.Errorf("system: %d %s", res.StatusCode, body)
	}
	if res, body := e.do("GET", "/", ""); res.StatusCode != 200 || !strings.Contains(body, "/v1/streams/{stream_id}/events") {
		t.Errorf("help: %d %s", res.StatusCode, body)
	}
	if res, body := e.do("GET", "/openapi.json", ""); res.StatusCode != 200 || body != `{"openapi":"3.0.0"}` {
		t.Errorf("openapi: %d %s", res.StatusCode, body)
	}
	if res, _ := e.do("GET", "/v1/system", "", "Origin: http://elsewhere"); res.Header.Get("Access-Control-Allow-Origin") != "" || res.Header.Get("X-Request-Id") == "" {
		t.Errorf("headers: %v", res.Header)
	}
}

func TestRESTToken(t *testing.T) {
	e := newEdge(t, 1, func(o *Options) { o.Token = "s3cret" })
	for header, want := range map[string]int{
		"X-Nothing: 1": 401, "Authorization: Basic s3cret": 401, "Authorization: Bearer wrong": 403, "Authorization: Bearer s3cret": 200, "Authorization: bearer s3cret": 200,
	} {
		res, body := e.do("GET", "/v1/streams", "", header)
		if res.StatusCode != want || want == 401 && res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s, want %d", header, res.StatusCode, body, want)
		}
	}
}

func TestRESTDeadlineIsOutcomeUnknown(t *testing.T) {
	e := newEdge(t, 1, func(o *Options) { o.WriteTimeout = 20 * time.Millisecond })
	e.memory.hold = make(chan struct{})
	res, body := e.do("POST", "/v1/streams/s/events", oneEvent)
	if res.StatusCode != http.StatusGatewayTimeout || !strings.Contains(body, "outcome unknown") || !strings.Contains(body, `"write_id"`) {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	e := newEdge(t, 1)
	e.memory.hold = make(chan struct{})
	type result struct {
		status int
		body   string
	}
	answered := make(chan result, 1)
	go func() {
		res, err := http.Post(e.url+"/v1/streams/s/events", "application/json", strings.NewReader(oneEvent))
		if err != nil {
			answered <- result{body: err.Error()}
			return
		}
		defer res.Body.Close()
		answered <- result{status: res.StatusCode}
	}()
	<-e.memory.started
	short, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("bound passed"))
	if err := e.svc.Drain(short); err == nil || err.Error() != "bound passed" {
		t.Fatalf("drained with a request in flight: %v", err)
	}
	if res, body := e.do("GET", "/v1/streams", ""); res.StatusCode != 503 || !strings.Contains(body, "this gateway stops") {
		t.Fatalf("while it stops: %d %s", res.StatusCode, body)
	}
	close(e.memory.hold)
	if r := <-answered; r.status != 200 {
		t.Fatalf("in flight: %d %s", r.status, r.body)
	}
	<-e.svc.drain.idle
}

// drawJSON makes JSON text with everything that a careless codec would change.
func drawJSON(t *rapid.T, depth int) string {
	space := rapid.SampledFrom([]string{"", "", " ", "\n\t", "\r\n "}).Draw(t, "space")
	kinds := 4
	if depth > 0 {
		kinds = 6
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom([]string{"0", "-0", "9007199254740993", "123456789012345678901234567890", "1e400", "1E-7", "1.0", "-1.50e+3", "0.1000"}).Draw(t, "number")
	case 1:
		return rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "literal")
	case 2:
		return rapid.SampledFrom([]string{`""`, `"\u0041"`, `"\ud83d\ude00"`, `"\ud800"`, `"\/"`, `"<>&"`, `"\u2028"`, `"\\n\""`, "\"\u2028é😀\x7f\""}).Draw(t, "string")
	case 3:
		b, err := json.Marshal(rapid.String().Draw(t, "text"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	case 4:
		var parts []string
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			parts = append(parts, space+drawJSON(t, depth-1)+space)
		}
		return "[" + strings.Join(parts, ",") + space + "]"
	default:
		var parts []string
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			parts = append(parts, space+rapid.SampledFrom([]string{`"b"`, `"a"`, `"a"`, `"\u0061"`}).Draw(t, "key")+space+":"+space+drawJSON(t, depth-1)+space)
		}
		return "{" + strings.Join(parts, ",") + space + "}"
	}
}

// What is sent comes back byte for byte, over REST and gRPC.
func TestDataComesBackByteForByte(t *testing.T) {
	e := newEdge(t, 1)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		data := drawJSON(t, 3)
		metadata := "{" + rapid.SampledFrom([]string{"", " ", `"k" : 1`, `"k":` + drawJSON(t, 1)}).Draw(t, "metadata") + "}"
		n++
		path := fmt.Sprintf("/v1/streams/s%d/events", n)
		if res, body := e.do("POST", path, `{ "events" : [ {"data" :  `+data+` ,"metadata":`+metadata+`,"event_type":"T"}]}`); res.StatusCode != 200 {
			t.Fatalf("append %s: %d %s", data, res.StatusCode, body)
		}
		_, body := e.do("GET", path, "")
		if want := `"data":` + data + `,"metadata":` + metadata + `,"created_at"`; !strings.Contains(body, want) {
			t.Fatalf("got %s\nwant %s", body, want)
		}
		if !json.Valid([]byte(body)) {
			t.Fatalf("not JSON: %s", body)
		}
		page, err := e.client.ReadStream(context.Background(), readOf(fmt.Sprintf("s%d", n)))
		if err != nil || string(page.GetEvents()[0].GetData()) != data || string(page.GetEvents()[0].GetMetadata()) != metadata {
			t.Fatalf("gRPC: %v, %v", page, err)
		}
		// Over a stream of frames only line breaks between tokens become spaces.
		w := writer{oneLine: true}
		if err := w.message(page.GetEvents()[0]); err != nil {
			t.Fatal(err)
		}
		line := strings.NewReplacer("\n", " ", "\r", " ").Replace(data)
		if bytes.ContainsAny(w.out, "\r\n") || !bytes.Contains(w.out, []byte(`"data":`+line+`,`)) {
			t.Fatalf("frame %s", w.out)
		}
	})
}

func TestBinaryComesBack(t *testing.T) {
	e := newEdge(t, 1)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		text := base64.StdEncoding.EncodeToString(data)
		n++
		path := "/v1/streams/" + url.PathEscape(fmt.Sprintf("b/%d", n)) + "/events"
		if res, body := e.do("POST", path, `{"events":[{"data_base64":"`+text+`","event_type":"T"}]}`); res.StatusCode != 200 {
			t.Fatalf("append: %d %s", res.StatusCode, body)
		}
		if _, body := e.do("GET", path, ""); !strings.Contains(body, `"data_base64":"`+text+`"`) {
			t.Fatalf("got %s", body)
		}
	})
}
