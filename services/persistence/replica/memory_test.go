package replica

import (
	"context"
	"errors"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// memory is a Bus of slices.
type memory struct {
	mu      sync.Mutex
	topics  map[string][]bus.Record // by topic; one partition is enough
	oldest  map[string]int64
	changed chan struct{}
	// fail decides about a Send: how many records of a topic are written; -1 is all.
	fail func(topic string, count int) int
}

func newMemory() *memory {
	return &memory{topics: map[string][]bus.Record{}, oldest: map[string]int64{}, changed: make(chan struct{})}
}

var errBroker = errors.New("broker away")

func (m *memory) Watermark(_ context.Context, topic string, _ int32) (int64, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.oldest[topic], m.oldest[topic] + int64(len(m.topics[topic])), nil
}

func (m *memory) put(topic string, records ...bus.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.write(topic, records)
}

func (m *memory) write(topic string, records []bus.Record) {
	for _, r := range records {
		r.Offset = m.oldest[topic] + int64(len(m.topics[topic]))
		m.topics[topic] = append(m.topics[topic], r)
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) Send(ctx context.Context, records []bus.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var topics []string
	by := map[string][]bus.Record{}
	for _, r := range records {
		if by[r.Topic] == nil {
			topics = append(topics, r.Topic)
		}
		by[r.Topic] = append(by[r.Topic], r)
	}
	var partial bus.PartialError
	for _, topic := range topics {
		n := len(by[topic])
		if m.fail != nil {
			if w := m.fail(topic, n); w >= 0 && w < n {
				partial.Failed = append(partial.Failed, &bus.PartitionError{Topic: topic, Written: w, Err: errBroker})
				n = w
			}
		}
		m.write(topic, by[topic][:n])
	}
	if partial.Failed != nil {
		return &partial
	}
	return nil
}

// await gives the records of a topic when there are at least n.
func (m *memory) await(t *testing.T, topic string, n int) []bus.Record {
	t.Helper()
	for {
		m.mu.Lock()
		records, changed := m.topics[topic], m.changed
		m.mu.Unlock()
		if len(records) >= n {
			return records
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("%s has %d records, want %d", topic, len(records), n)
		}
	}
}

type memoryReader struct {
	bus  *memory
	opts bus.ReaderOptions
	next int64
}

func (m *memory) Reader(opts bus.ReaderOptions) (Reader, error) {
	r := &memoryReader{bus: m, opts: opts, next: opts.Offset}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch opts.Offset {
	case bus.OffsetNewest:
		r.next = m.oldest[opts.Topic] + int64(len(m.topics[opts.Topic]))
	case bus.OffsetOldest:
		r.next = m.oldest[opts.Topic]
	}
	return r, nil
}

func (r *memoryReader) Poll(ctx context.Context) ([]bus.Record, error) {
	m := r.bus
	for {
		m.mu.Lock()
		oldest, all, changed := m.oldest[r.opts.Topic], m.topics[r.opts.Topic], m.changed
		m.mu.Unlock()
		next := oldest + int64(len(all))
		if r.next < oldest || r.next > next {
			return nil, &bus.OffsetGoneError{Topic: r.opts.Topic, Asked: r.next, Oldest: oldest, Next: next}
		}
		if r.next < next {
			records := all[r.next-oldest:]
			if len(records) > 7 { // a fetch is bounded
				records = records[:7]
			}
			r.next += int64(len(records))
			return records, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *memoryReader) Close() error { return nil }

// envelope names topics as their events and adds no headers.
type envelope struct{}

func (envelope) Topic(event string) string { return event }

func (envelope) Record(event, key string, partition int32, msg proto.Message) (bus.Record, error) {
	value, err := proto.Marshal(msg)
	return bus.Record{Topic: event, Partition: partition, Key: []byte(key), Value: value}, err
}

// commands numbers the commands of one owner.
type commands struct {
	seq, request, term int64
}

func record(c *eventsv1.WriteCommandValidated) bus.Record {
	value, err := proto.Marshal(c)
	if err != nil {
		panic(err)
	}
	return bus.Record{Key: []byte(c.StreamId), Value: value}
}

func (c *commands) claim() bus.Record {
	return record(&eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_CLAIM})
}

func (c *commands) append(stream, write string, ids ...string) bus.Record {
	c.seq++
	c.request++
	r := &eventsv1.WriteCommandValidated{
		Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, StreamId: stream, WriteId: write, ExpectedVersion: -2,
		Term: c.term, Seq: c.seq, RequestOffset: c.request,
	}
	for _, id := range ids {
		r.Events = append(r.Events, &eventsv1.NewEvent{EventId: id, EventType: "t", Data: []byte(`{}`)})
	}
	return record(r)
}

func (c *commands) delete(stream, write string) bus.Record {
	c.seq++
	c.request++
	return record(&eventsv1.WriteCommandValidated{
		Kind: eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE, StreamId: stream, WriteId: write, ExpectedVersion: -2,
		Term: c.term, Seq: c.seq, RequestOffset: c.request,
	})
}
