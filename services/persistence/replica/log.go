package replica

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/shared/bus"
)

// Reader reads one partition; *bus.Reader is one, tests have another.
type Reader interface {
	Poll(ctx context.Context) ([]bus.Record, error)
	Close() error
}

// Bus is what a replica needs of Kafka.
type Bus interface {
	// Watermark gives the oldest offset and the one that the next record gets.
	Watermark(ctx context.Context, topic string, partition int32) (oldest, next int64, err error)
	Reader(opts bus.ReaderOptions) (Reader, error)
	// Send writes records in order within each partition; a partial failure is a *bus.PartialError.
	Send(ctx context.Context, records []bus.Record) error
}

// Kafka is the Bus on a client and the stage's one producer.
type Kafka struct {
	Client   *bus.Client
	Producer *bus.Producer
}

// Watermark implements Bus.
func (k Kafka) Watermark(ctx context.Context, topic string, partition int32) (int64, int64, error) {
	return k.Client.Watermark(ctx, topic, partition)
}

// Reader implements Bus.
func (k Kafka) Reader(opts bus.ReaderOptions) (Reader, error) { return bus.NewReader(k.Client, opts) }

// Send implements Bus.
func (k Kafka) Send(ctx context.Context, records []bus.Record) error {
	return k.Producer.Send(ctx, records)
}

// Envelope makes records and topics of events; *runtime.Instance is one.
type Envelope interface {
	Topic(event string) string
	// Record makes a record of an event with its CloudEvents headers.
	Record(event, key string, partition int32, msg proto.Message) (bus.Record, error)
}
