package harness

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
)

// Topics reads and writes the topics of a system, past its services.
type Topics struct {
	t       testing.TB
	system  *Running
	Client  *bus.Client
	produce *bus.Producer
}

// Topics connects to the system's Kafka.
func (s *Running) Topics() *Topics {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	client, err := bus.Dial(ctx, bus.Config{Brokers: strings.Split(s.Kafka, ","), ClientID: "acceptance"})
	if err != nil {
		s.t.Fatal(err)
	}
	topics := &Topics{t: s.t, system: s, Client: client, produce: bus.NewProducer(client)}
	s.t.Cleanup(func() { _ = errors.Join(topics.produce.Close(), client.Close()) })
	return topics
}

// Partitions of an event's topic.
func (k *Topics) Partitions(event string) int32 {
	return registry.Must(event).Partitions(k.system.Shards)
}

// Read returns all records that a partition of an event's topic holds now.
func (k *Topics) Read(event string, partition int32) []bus.Record {
	k.t.Helper()
	records, err := k.read(event, partition)
	if err != nil {
		k.t.Fatal(err)
	}
	return records
}

func (k *Topics) read(event string, partition int32) ([]bus.Record, error) {
	ctx, cancel := context.WithTimeout(k.t.Context(), 30*time.Second)
	defer cancel()
	topic := registry.Topic(k.system.StoreID, event)
	oldest, next, err := k.Client.Watermark(ctx, topic, partition)
	if err != nil || oldest == next {
		return nil, err
	}
	reader, err := bus.NewReader(k.Client, bus.ReaderOptions{Topic: topic, Partition: partition, Offset: oldest})
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var all []bus.Record
	for reader.Next() < next {
		records, err := reader.Poll(ctx)
		if err != nil {
			return nil, fmt.Errorf("read %s/%d from %d to %d: %w", topic, partition, reader.Next(), next, err)
		}
		for _, r := range records {
			if r.Offset < next {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// Record is a decoded record.
type Record[M proto.Message] struct {
	bus.Record
	Value M
}

// ReadAs returns the records of all partitions of an event's topic, decoded; undecodable ones are left out.
func ReadAs[M proto.Message](k *Topics, event string) []Record[M] {
	k.t.Helper()
	var all []Record[M]
	for p := range k.Partitions(event) {
		for _, r := range k.Read(event, p) {
			message := registry.Must(event).Message()
			if len(r.Value) == 0 || proto.Unmarshal(r.Value, message) != nil {
				continue
			}
			typed, ok := message.(M)
			if !ok {
				k.t.Fatalf("event %s is a %T", event, message)
			}
			all = append(all, Record[M]{r, typed})
		}
	}
	return all
}

// Produce appends records to a partition of an event's topic, as they are.
func (k *Topics) Produce(event string, partition int32, records ...bus.Record) error {
	ctx, cancel := context.WithTimeout(k.t.Context(), 30*time.Second)
	defer cancel()
	topic := registry.Topic(k.system.StoreID, event)
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && (n == 0 || size < 1<<20) {
			size += len(records[n].Value) + 512
			n++
		}
		if _, err := k.produce.Append(ctx, topic, partition, records[:n]); err != nil {
			return fmt.Errorf("produce to %s/%d: %w", topic, partition, err)
		}
		records = records[n:]
	}
	return nil
}

// Ends are the oldest and the next offset of a partition of an event's topic.
func (k *Topics) Ends(event string, partition int32) (oldest, next int64) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 10*time.Second)
	defer cancel()
	oldest, next, err := k.Client.Watermark(ctx, registry.Topic(k.system.StoreID, event), partition)
	if err != nil {
		k.t.Fatal(err)
	}
	return oldest, next
}

// Delete removes the records of an event's topic that are there now, of all partitions, as retention does.
func (k *Topics) Delete(event string) {
	k.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.system.Kafka, ",")...))
	if err != nil {
		k.t.Fatal(err)
	}
	defer client.Close()
	topic := registry.Topic(k.system.StoreID, event)
	offsets := kadm.Offsets{}
	for p := range k.Partitions(event) {
		_, next := k.Ends(event, p)
		offsets.AddOffset(topic, p, next, -1)
	}
	deleted, err := kadm.NewClient(client).DeleteRecords(k.t.Context(), offsets)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		k.t.Fatalf("delete the records of %s: %v", topic, err)
	}
}

// Configs are the Kafka settings of an event's topic.
func (k *Topics) Configs(event string) map[string]string {
	k.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.system.Kafka, ",")...))
	if err != nil {
		k.t.Fatal(err)
	}
	defer client.Close()
	topic := registry.Topic(k.system.StoreID, event)
	described, err := kadm.NewClient(client).DescribeTopicConfigs(k.t.Context(), topic)
	if err != nil {
		k.t.Fatalf("describe %s: %v", topic, err)
	}
	configs := map[string]string{}
	for _, resource := range described {
		if resource.Err != nil {
			k.t.Fatalf("describe %s: %v", topic, resource.Err)
		}
		for _, c := range resource.Configs {
			configs[c.Key] = c.MaybeValue()
		}
	}
	return configs
}
