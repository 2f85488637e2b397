package main

import (
	"encoding/base64"
	"encoding/json"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// eventLine is an event as one line of NDJSON: the form of read, export and import.
// Payloads stay byte for byte: compact JSON as it is, anything else as base64.
type eventLine struct {
	EventID     string          `json:"event_id,omitempty"`
	EventType   string          `json:"event_type"`
	StreamID    string          `json:"stream_id"`
	Version     *int64          `json:"version,omitempty"`
	Position    string          `json:"position,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	DataBase64  *string         `json:"data_base64,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
	Tags        []string        `json:"tags,omitempty"`
	CreatedAtMs int64           `json:"created_at_ms,omitempty"`
}

func lineOf(e *apiv1.Event) eventLine {
	version := e.GetVersion()
	l := eventLine{
		EventID: e.GetEventId(), EventType: e.GetEventType(), StreamID: e.GetStreamId(), Version: &version,
		Position: e.GetPosition(), Metadata: e.GetMetadata(), Tags: e.GetTags(), CreatedAtMs: e.GetCreatedAtMs(),
	}
	if e.GetBinary() {
		text := base64.StdEncoding.EncodeToString(e.GetData())
		l.DataBase64 = &text
	} else {
		l.Data = e.GetData()
	}
	return l
}

func (l eventLine) proposed() (*apiv1.ProposedEvent, error) {
	e := &apiv1.ProposedEvent{EventId: l.EventID, EventType: l.EventType, Data: l.Data, Metadata: l.Metadata, Tags: l.Tags}
	if l.DataBase64 != nil {
		data, err := base64.StdEncoding.DecodeString(*l.DataBase64)
		if err != nil {
			return nil, err
		}
		e.Data, e.Binary = data, true
	}
	return e, nil
}
