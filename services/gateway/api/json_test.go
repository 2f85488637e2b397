package api

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// The scanner takes exactly what encoding/json takes, on random and on broken text.
func TestScannerAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(drawJSON(t, 4))
		if rapid.Bool().Draw(t, "break") && len(text) > 0 {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			text[at] = rapid.SampledFrom([]byte(` "\{}[]:,0-.eEtn`+"\n\x01")).Draw(t, "with")
		}
		s := &scanner{text: text}
		err := s.skip(0)
		if err == nil {
			err = s.end()
		}
		if json.Valid(text) != (err == nil) {
			t.Fatalf("%q: %v, encoding/json says %v", text, err, json.Valid(text))
		}
	})
}

func TestStringsAgreeWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "text")
		for _, encoded := range [][]byte{must(json.Marshal(want)), appendString(nil, want)} {
			s := &scanner{text: encoded}
			if got, err := s.str(); err != nil || got != want {
				t.Fatalf("%s is read as %q, %v; want %q", encoded, got, err, want)
			}
			var back string
			if err := json.Unmarshal(encoded, &back); err != nil || back != want {
				t.Fatalf("%s is read by encoding/json as %q, %v", encoded, back, err)
			}
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestNestingIsBounded(t *testing.T) {
	deep := make([]byte, 2*maxDepth)
	for i := range deep {
		deep[i] = '['
	}
	if err := (&scanner{text: deep}).skip(0); err == nil {
		t.Fatal("nesting is not bounded")
	}
}

func FuzzDecodeAppend(f *testing.F) {
	for _, seed := range []string{
		oneEvent, `{}`, `{"expected_version":-1,"events":[{"event_id":"a","event_type":"b","data":{"x":[1,2.5e3,"\u00e9"]},"metadata":{},"tags":["t"]}],"idempotency_key":"k"}`,
		`{"events":[{"data_base64":"AA=="}]}`, `{"events":null}`, "\xff", `{"events":[{"data":"\ud800"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req apiv1.AppendRequest
		err := decodeAppend(body, &req)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without a message")
			}
			return
		}
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatalf("took %q, which is not JSON", body)
		}
		var plain struct {
			Expected *int64 `json:"expected_version"`
			Events   []struct {
				ID   *string          `json:"event_id"`
				Type string           `json:"event_type"`
				Data *json.RawMessage `json:"data"`
			} `json:"events"`
		}
		if err := json.Unmarshal(body, &plain); err != nil {
			t.Fatalf("took %q, encoding/json says %v", body, err)
		}
		if len(plain.Events) != len(req.GetEvents()) {
			t.Fatalf("%d events, encoding/json says %d", len(req.GetEvents()), len(plain.Events))
		}
		for i, e := range req.GetEvents() {
			if e.GetEventType() != plain.Events[i].Type {
				t.Fatalf("event type %q, encoding/json says %q", e.GetEventType(), plain.Events[i].Type)
			}
			if raw := plain.Events[i].Data; raw != nil && string(*raw) != string(e.GetData()) {
				t.Fatalf("data %q, encoding/json says %q", e.GetData(), *raw)
			}
		}
	})
}
