package control

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"
)

// The CloudEvents attributes, as metadata of a message.
const (
	keyID          = "ce_id"
	keyType        = "ce_type"
	keyTime        = "ce_time"
	keyNode        = "ce_node"
	keyIncarnation = "ce_incarnation"
	keySequence    = "ce_sequence"
)

// Meta is what the envelope of a control event says.
type Meta struct {
	ID, Node              string
	Incarnation, Sequence uint64
	Time                  time.Time
}

func metaOf(msg *message.Message) Meta {
	m := Meta{ID: msg.Metadata.Get(keyID), Node: msg.Metadata.Get(keyNode)}
	// Absent or malformed attributes read as zero: nothing is fresher than that.
	m.Incarnation, _ = strconv.ParseUint(msg.Metadata.Get(keyIncarnation), 10, 64)
	m.Sequence, _ = strconv.ParseUint(msg.Metadata.Get(keySequence), 10, 64)
	m.Time, _ = time.Parse(time.RFC3339Nano, msg.Metadata.Get(keyTime))
	return m
}

// Codec reads and writes control events as protobuf; it implements Watermill's
// cqrs marshaler. The envelope is added where events are published.
type Codec struct{}

// Marshal encodes an event.
func (Codec) Marshal(v any) (*message.Message, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("encode %T: not a protobuf message", v)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return message.NewMessage("", b), nil
}

// Unmarshal decodes an event.
func (Codec) Unmarshal(msg *message.Message, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("decode into %T: not a protobuf message", v)
	}
	if err := proto.Unmarshal(msg.Payload, m); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

// Name is the event's name: SystemReady is system_ready.
func (Codec) Name(v any) string {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return EventName(t.Name())
}

// NameFromMessage is the name that the envelope gives.
func (Codec) NameFromMessage(msg *message.Message) string { return msg.Metadata.Get(keyType) }

// EventName turns the name of a message into that of its event.
func EventName(messageName string) string {
	var b strings.Builder
	for i, r := range messageName {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
