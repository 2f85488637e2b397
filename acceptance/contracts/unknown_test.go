// Package contracts shows that releases with different schemas understand each other.
package contracts

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestUnknownFieldsTravelThroughTheSystem: a request of a later release, with a field of an
// event that this one does not know, is taken, and the field is still there in the log.
func TestUnknownFieldsTravelThroughTheSystem(t *testing.T) {
	s := harness.Up(t, harness.Options{})
	topics := s.Topics()
	event := &eventsv1.NewEvent{EventId: "later", EventType: "Later", Data: []byte(`{"a":1}`)}
	unknown := protowire.AppendTag(nil, 1000, protowire.BytesType)
	unknown = protowire.AppendString(unknown, "of a later release")
	event.ProtoReflect().SetUnknown(unknown)
	request := &eventsv1.StreamWriteRequested{
		StreamId: "later", Events: []*eventsv1.NewEvent{event}, ExpectedVersion: -1, WriteId: "later",
		Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, BodyHash: []byte("hash"), RequestedAtMs: time.Now().UnixMilli(),
	}
	value, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := topics.Produce(registry.StreamWriteRequested, 0, bus.Record{Key: []byte("later"), Value: value}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 10*time.Second, "the write is in the store", func() error {
		read, err := s.REST.ReadStream(t.Context(), "later")
		if err != nil || len(read) != 1 || string(read[0].Data) != `{"a":1}` {
			return fmt.Errorf("%d events, %w", len(read), err)
		}
		return nil
	})
	found := false
	for _, r := range harness.ReadAs[*eventsv1.WriteCommandValidated](topics, registry.WriteCommandValidated) {
		if r.Value.GetWriteId() != "later" {
			continue
		}
		found = true
		if have := r.Value.GetEvents()[0].ProtoReflect().GetUnknown(); string(have) != string(unknown) {
			t.Errorf("write_command_validated lost the unknown field: %q", have)
		}
	}
	if !found {
		t.Error("no write_command_validated")
	}
	// The rest of the system goes on.
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "later", Events: []harness.Event{{EventType: "T", Data: json.RawMessage("1")}}}); err != nil {
		t.Error(err)
	}
}
