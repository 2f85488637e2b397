package bus

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Names of the headers of an event: CloudEvents 1.0, Kafka binary mode
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md).
const (
	HeaderSpecVersion   = "ce_specversion"
	HeaderID            = "ce_id"
	HeaderSource        = "ce_source"
	HeaderType          = "ce_type"
	HeaderTime          = "ce_time"
	HeaderSubject       = "ce_subject"
	HeaderStoreID       = "ce_storeid"
	HeaderNode          = "ce_node"
	HeaderIncarnation   = "ce_incarnation"
	HeaderSequence      = "ce_sequence"
	HeaderCorrelationID = "ce_correlationid"
	HeaderCausationID   = "ce_causationid"
	HeaderContentType   = "content-type"
	HeaderTraceParent   = "traceparent"
)

// ContentTypeProtobuf is the content type of every event's value.
const ContentTypeProtobuf = "application/protobuf"

// Event is the envelope of an event. Incarnation grows with each start of the node,
// Sequence with each event of an incarnation. Empty attributes are not written.
type Event struct {
	ID, Source, Type, Subject  string
	Time                       time.Time
	StoreID, Node              string
	Incarnation, Sequence      uint64
	CorrelationID, CausationID string
	TraceParent                string
}

// sourcePrefix starts the source of every event.
const sourcePrefix = "/exesdb/"

// EventSource is the source of a node's events: it names the store and the node.
func EventSource(storeID, node string) string { return sourcePrefix + storeID + "/" + node }

// EventIDs makes the ids of a node's events: they tell node, incarnation and sequence.
type EventIDs struct{ prefix string }

// NewEventIDs makes those of one start of a node.
func NewEventIDs(node string, incarnation uint64) EventIDs {
	return EventIDs{node + "-" + strconv.FormatUint(incarnation, 36) + "-"}
}

// Of is the id of the event with that sequence.
func (e EventIDs) Of(sequence uint64) string {
	var scratch [96]byte
	return string(strconv.AppendUint(append(scratch[:0], e.prefix...), sequence, 36))
}

// Slim is the envelope without what its id and source tell already. ParseEvent reads both forms alike.
func (e Event) Slim() Event {
	e.StoreID, e.Node, e.Incarnation, e.Sequence = "", "", 0, 0
	return e
}

// complete fills in from id and source what a slim envelope leaves to them. Those of other makers tell nothing.
func (e *Event) complete() {
	if e.StoreID != "" || e.Node != "" {
		return
	}
	named, ours := strings.CutPrefix(e.Source, sourcePrefix)
	store, node, both := strings.Cut(named, "/")
	place, ofNode := strings.CutPrefix(e.ID, node+"-")
	incarnation, sequence, counted := strings.Cut(place, "-")
	if !ours || !both || !ofNode || !counted {
		return
	}
	in, err1 := strconv.ParseUint(incarnation, 36, 64)
	seq, err2 := strconv.ParseUint(sequence, 36, 64)
	if err1 == nil && err2 == nil {
		e.StoreID, e.Node, e.Incarnation, e.Sequence = store, node, in, seq
	}
}

// Headers returns the envelope as headers.
func (e *Event) Headers() []Header {
	return e.AppendHeaders(make([]Header, 0, 14))
}

var (
	specVersionValue = []byte("1.0")
	protobufValue    = []byte(ContentTypeProtobuf)
)

// AppendHeaders appends the envelope. The values share one buffer.
func (e *Event) AppendHeaders(hs []Header) []Header {
	// One allocation for all values; 20 digits are the longest uint64, 35 bytes the longest time.
	size := len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) + len(e.StoreID) + len(e.Node) +
		len(e.CorrelationID) + len(e.CausationID) + len(e.TraceParent) + 20 + 20 + 35
	buf := make([]byte, 0, size)
	text := func(key, v string) {
		if v != "" {
			from := len(buf)
			buf = append(buf, v...)
			hs = append(hs, Header{Key: key, Value: buf[from:len(buf):len(buf)]})
		}
	}
	number := func(key string, v uint64) {
		if v != 0 {
			from := len(buf)
			buf = strconv.AppendUint(buf, v, 10)
			hs = append(hs, Header{Key: key, Value: buf[from:len(buf):len(buf)]})
		}
	}
	hs = append(hs, Header{Key: HeaderSpecVersion, Value: specVersionValue})
	text(HeaderID, e.ID)
	text(HeaderSource, e.Source)
	text(HeaderType, e.Type)
	if !e.Time.IsZero() {
		from := len(buf)
		buf = e.Time.UTC().AppendFormat(buf, time.RFC3339Nano)
		hs = append(hs, Header{Key: HeaderTime, Value: buf[from:len(buf):len(buf)]})
	}
	text(HeaderSubject, e.Subject)
	text(HeaderStoreID, e.StoreID)
	text(HeaderNode, e.Node)
	number(HeaderIncarnation, e.Incarnation)
	number(HeaderSequence, e.Sequence)
	text(HeaderCorrelationID, e.CorrelationID)
	text(HeaderCausationID, e.CausationID)
	hs = append(hs, Header{Key: HeaderContentType, Value: protobufValue})
	text(HeaderTraceParent, e.TraceParent)
	return hs
}

// ParseEvent reads the envelope from a record's headers. Headers that it does not
// know are ignored. It fails when the record is no CloudEvent 1.x or when a number
// or time is malformed; the event then has what could be read.
func ParseEvent(hs []Header) (Event, error) {
	var e Event
	var err error
	version := ""
	number := func(h *Header, to *uint64) {
		v, nerr := strconv.ParseUint(string(h.Value), 10, 64)
		if nerr != nil && err == nil {
			err = fmt.Errorf("parse header %s: %w", h.Key, nerr)
		}
		*to = v
	}
	for i := range hs {
		h := &hs[i]
		switch h.Key {
		case HeaderSpecVersion:
			version = string(h.Value)
		case HeaderID:
			e.ID = string(h.Value)
		case HeaderSource:
			e.Source = string(h.Value)
		case HeaderType:
			e.Type = string(h.Value)
		case HeaderTime:
			t, terr := time.Parse(time.RFC3339Nano, string(h.Value))
			if terr != nil && err == nil {
				err = fmt.Errorf("parse header %s: %w", h.Key, terr)
			}
			e.Time = t
		case HeaderSubject:
			e.Subject = string(h.Value)
		case HeaderStoreID:
			e.StoreID = string(h.Value)
		case HeaderNode:
			e.Node = string(h.Value)
		case HeaderIncarnation:
			number(h, &e.Incarnation)
		case HeaderSequence:
			number(h, &e.Sequence)
		case HeaderCorrelationID:
			e.CorrelationID = string(h.Value)
		case HeaderCausationID:
			e.CausationID = string(h.Value)
		case HeaderTraceParent:
			e.TraceParent = string(h.Value)
		}
	}
	e.complete()
	if len(version) < 2 || version[:2] != "1." {
		return e, fmt.Errorf("parse event: header %s is %q, want 1.0: not a CloudEvent in Kafka's binary mode", HeaderSpecVersion, version)
	}
	return e, err
}

// headerKey turns the bytes of a key into a string, without an allocation for those
// that every event has.
func headerKey(b []byte) string {
	switch string(b) {
	case HeaderSpecVersion:
		return HeaderSpecVersion
	case HeaderID:
		return HeaderID
	case HeaderSource:
		return HeaderSource
	case HeaderType:
		return HeaderType
	case HeaderTime:
		return HeaderTime
	case HeaderSubject:
		return HeaderSubject
	case HeaderStoreID:
		return HeaderStoreID
	case HeaderNode:
		return HeaderNode
	case HeaderIncarnation:
		return HeaderIncarnation
	case HeaderSequence:
		return HeaderSequence
	case HeaderCorrelationID:
		return HeaderCorrelationID
	case HeaderCausationID:
		return HeaderCausationID
	case HeaderContentType:
		return HeaderContentType
	case HeaderTraceParent:
		return HeaderTraceParent
	}
	return string(b)
}
