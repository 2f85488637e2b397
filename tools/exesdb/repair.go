package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/persistence/storage"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// repairChunkBytes is the most that is appended at once.
const repairChunkBytes = 4 << 20

// repair gives the embedded broker back what a power cut took from the end of
// its log: the store, which is synced, keeps the raw records of the last stretch.
// A Kafka that was given is not touched: there a log that is behind the store
// is an error that persistence reports.
func (u *upCommand) repair(ctx context.Context, common config.Common) error {
	dir := filepath.Join(u.DataDir, "store")
	if _, err := os.Stat(dir); u.Kafka != "" || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	client, err := bus.Dial(ctx, bus.Config{Brokers: common.KafkaBrokers, ClientID: "exesdb-up"})
	if err != nil {
		return err
	}
	defer client.Close()
	topic := registry.Topic(common.StoreID, registry.WriteCommandValidated)
	if err := client.EnsureTopics(ctx, runtime.Topics(common)); err != nil {
		return err
	}
	store, err := storage.Open(dir, storage.Options{})
	if err != nil {
		return err
	}
	for n := range common.Shards {
		if err := refill(ctx, client, store, topic, n); err != nil {
			return errors.Join(fmt.Errorf("repair the log of shard %d: %w", n, err), store.Close())
		}
		if err := announceAgain(ctx, client, store, common.StoreID, n); err != nil {
			return errors.Join(fmt.Errorf("compare the acknowledgements of shard %d: %w", n, err), store.Close())
		}
	}
	return store.Close()
}

func refill(ctx context.Context, client *bus.Client, store *storage.Store, topic string, n int32) error {
	shard, err := store.Shard(n)
	if err != nil {
		return err
	}
	defer shard.Close()
	_, next, err := client.Watermark(ctx, topic, n)
	if err != nil {
		return err
	}
	applied := shard.State().Applied
	if next > applied {
		return nil
	}
	fmt.Fprintf(os.Stderr, "the broker's log of shard %d ends at %d, the store has applied %d: giving it back from the store\n", n, next-1, applied)
	producer := bus.NewProducer(client)
	defer producer.Close()
	var records []bus.Record
	bytes := 0
	flush := func() error {
		if len(records) == 0 {
			return nil
		}
		first, err := producer.Append(ctx, topic, n, records)
		if err != nil {
			return err
		}
		if first != next {
			return fmt.Errorf("records went to offset %d, want %d: another process writes to this log", first, next)
		}
		next += int64(len(records))
		records, bytes = nil, 0
		return nil
	}
	err = shard.RawRecords(next, func(r storage.RawRecord) error {
		if want := next + int64(len(records)); r.Offset != want {
			return fmt.Errorf("the store keeps raw records only from offset %d, the log ends before %d: restore the broker's directory from a backup", r.Offset, want)
		}
		record := bus.Record{Key: append([]byte(nil), r.Key...), Value: append([]byte(nil), r.Value...)}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, bus.Header{Key: string(h.Key), Value: append([]byte(nil), h.Value...)})
		}
		records = append(records, record)
		if bytes += len(r.Value); bytes > repairChunkBytes {
			return flush()
		}
		return nil
	})
	return errors.Join(err, flush())
}

// announceAgain sets the shard's place back when the topic of acknowledgements lost
// its end and the place did not: else what was lost would never be announced again,
// and the feed would miss it.
func announceAgain(ctx context.Context, client *bus.Client, store *storage.Store, storeID string, n int32) error {
	place, err := placeOf(ctx, client, storeID, n)
	if err != nil || place == nil || place.GetLastAcknowledgedOffset() < 0 {
		return err
	}
	last := int64(-1)
	topic := registry.Topic(storeID, registry.WriteAcknowledged)
	oldest, next, err := client.Watermark(ctx, topic, n)
	if err != nil {
		return err
	}
	// The newest is enough, unless it is no acknowledgement; retention leaves the last ones where they are.
	for from, span := next-1, int64(1); last < 0 && from >= oldest; from, span = from-span, 4*span {
		err := eachRecord(ctx, client, topic, n, max(oldest, from), next, func(r bus.Record) {
			var ack eventsv1.WriteAcknowledged
			if proto.Unmarshal(r.Value, &ack) == nil && ack.GetWriteId() != "" {
				last = max(last, ack.GetLogOffset())
			}
		})
		if err != nil {
			return err
		}
	}
	if last >= place.GetLastAcknowledgedOffset() || last < 0 && next > 0 && oldest == next {
		return nil
	}
	fmt.Fprintf(os.Stderr, "the acknowledgements of shard %d end at log offset %d, %d was announced: announcing again from there\n", n, last, place.GetLastAcknowledgedOffset())
	again := &eventsv1.ShardAcknowledged{
		Shard: n, LogOffset: last, Term: -1, RequestOffset: -1, LastAcknowledgedOffset: last, LastRejectedOffset: -1,
		Owner: "exesdb-up", OwnerTerm: place.GetOwnerTerm() + 1,
	}
	if last >= 0 {
		shard, err := store.Shard(n)
		if err != nil {
			return err
		}
		outcome, found, err := shard.Outcome(last)
		if err := errors.Join(err, shard.Close()); err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("the store has no outcome at log offset %d", last)
		}
		again.Term, again.Seq, again.RequestOffset = outcome.GetTerm(), outcome.GetSeq(), outcome.GetRequestOffset()
		again.OutcomeHash = outcome.GetOutcomeHash()
	}
	value, err := proto.Marshal(again)
	if err != nil {
		return err
	}
	producer := bus.NewProducer(client)
	defer producer.Close()
	_, err = producer.Append(ctx, registry.Topic(storeID, registry.ShardAcknowledged), 0, []bus.Record{{Key: []byte(fmt.Sprint(n)), Value: value}})
	return err
}

// placeOf is the newest place of the shard; nil is none.
func placeOf(ctx context.Context, client *bus.Client, storeID string, n int32) (*eventsv1.ShardAcknowledged, error) {
	topic := registry.Topic(storeID, registry.ShardAcknowledged)
	oldest, next, err := client.Watermark(ctx, topic, 0)
	if err != nil {
		return nil, err
	}
	var newest *eventsv1.ShardAcknowledged
	err = eachRecord(ctx, client, topic, 0, oldest, next, func(r bus.Record) {
		var place eventsv1.ShardAcknowledged
		if proto.Unmarshal(r.Value, &place) != nil || place.GetOwner() == "" || place.GetShard() != n {
			return
		}
		if newest == nil || place.GetOwnerTerm() > newest.GetOwnerTerm() || place.GetOwnerTerm() == newest.GetOwnerTerm() && place.GetLogOffset() >= newest.GetLogOffset() {
			newest = &place
		}
	})
	return newest, err
}

// eachRecord reads a partition from one offset to another.
func eachRecord(ctx context.Context, client *bus.Client, topic string, partition int32, from, to int64, take func(bus.Record)) error {
	if from >= to {
		return nil
	}
	reader, err := bus.NewReader(client, bus.ReaderOptions{Topic: topic, Partition: partition, Offset: from})
	if err != nil {
		return err
	}
	defer reader.Close()
	for reader.Next() < to {
		records, err := reader.Poll(ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			take(r)
		}
	}
	return nil
}
