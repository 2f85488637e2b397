package bus

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// MetadataKey is the metadata of a Watermill message that holds its record's key; all
// other metadata are headers.
const MetadataKey = "exesdb_key"

// Position is the place of a message's record.
type Position struct {
	Topic     string // empty on the control lane
	Partition int32
	Offset    int64
}

type positionKey struct{}

// MessagePosition returns where a message of either lane was read from.
func MessagePosition(ctx context.Context) (Position, bool) {
	if p, ok := ctx.Value(positionKey{}).(Position); ok {
		return p, true
	}
	partition, ok := kafka.MessagePartitionFromCtx(ctx)
	if !ok {
		return Position{}, false
	}
	offset, ok := kafka.MessagePartitionOffsetFromCtx(ctx)
	return Position{Partition: partition, Offset: offset}, ok
}

// messageHeaders returns the key and headers of a message. Its UUID is the ce_id where
// that says the same.
func messageHeaders(msg *message.Message) (key []byte, hs []Header) {
	hs = make([]Header, 0, len(msg.Metadata)+1)
	if msg.UUID != msg.Metadata[HeaderID] {
		hs = append(hs, Header{Key: kafka.UUIDHeaderKey, Value: []byte(msg.UUID)})
	}
	for k, v := range msg.Metadata {
		if k == MetadataKey {
			key = []byte(v)
			continue
		}
		hs = append(hs, Header{Key: k, Value: []byte(v)})
	}
	return key, hs
}

// newMessage makes a message of any record: one without an id is named by its place.
func newMessage(at Position, key, value []byte, hs []Header) *message.Message {
	meta := make(message.Metadata, len(hs)+1)
	uuid := ""
	for i := range hs {
		if hs[i].Key == kafka.UUIDHeaderKey {
			uuid = string(hs[i].Value)
			continue
		}
		meta[hs[i].Key] = string(hs[i].Value)
	}
	if uuid == "" {
		uuid = meta[HeaderID]
	}
	if uuid == "" {
		uuid = fmt.Sprintf("%s/%d/%d", at.Topic, at.Partition, at.Offset)
	}
	if key != nil {
		meta[MetadataKey] = string(key)
	}
	msg := message.NewMessage(uuid, value)
	msg.Metadata = meta
	return msg
}

// PublisherOptions configure a [Publisher].
type PublisherOptions struct {
	// Partition chooses among n partitions. Default: FNV-1a of the key, or of the UUID
	// where there is no key; the control lane's choice for keys is the same.
	Partition func(topic string, msg *message.Message, n int32) int32
}

// Publisher is Watermill's Publisher on the data lane's driver.
type Publisher struct {
	client   *Client
	producer *Producer
	opts     PublisherOptions

	mu    sync.Mutex
	sizes map[string]int32 // partitions per topic; they never change
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher makes a publisher with a producer of its own.
func NewPublisher(client *Client, opts PublisherOptions) *Publisher {
	if opts.Partition == nil {
		opts.Partition = hashPartition
	}
	return &Publisher{client: client, producer: NewProducer(client), opts: opts, sizes: map[string]int32{}}
}

func hashPartition(_ string, msg *message.Message, n int32) int32 {
	h := fnv.New32a()
	if key, ok := msg.Metadata[MetadataKey]; ok {
		_, _ = h.Write([]byte(key))
	} else {
		_, _ = h.Write([]byte(msg.UUID))
	}
	p := int32(h.Sum32()) % n // as sarama's hash partitioner does
	if p < 0 {
		p = -p
	}
	return p
}

// Publish writes all messages, with one request per leader, and returns when they are
// replicated. The first message's context applies to all. Errors are those of
// [Producer.Send].
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	ctx := msgs[0].Context()
	n, err := p.partitions(ctx, topic)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	records := make([]Record, len(msgs))
	for i, msg := range msgs {
		key, hs := messageHeaders(msg)
		records[i] = Record{Topic: topic, Partition: p.opts.Partition(topic, msg, n), Key: key, Value: msg.Payload, Headers: hs}
	}
	if err := p.producer.Send(ctx, records); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (p *Publisher) partitions(ctx context.Context, topic string) (int32, error) {
	p.mu.Lock()
	n := p.sizes[topic]
	p.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	n, err := p.client.Partitions(ctx, topic)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.sizes[topic] = n
	p.mu.Unlock()
	return n, nil
}

// Close closes the publisher's producer, not the client.
func (p *Publisher) Close() error { return p.producer.Close() }

// SubscriberOptions configure a [Subscriber].
type SubscriberOptions struct {
	// From is OffsetOldest or OffsetNewest: where to begin. Default: OffsetOldest.
	// With a group it counts only where the group has no place yet.
	From int64
	// ConsumerGroup shares the topic's partitions among the instances of the group,
	// through watermill-kafka. Default: none, every instance reads everything.
	ConsumerGroup string
	// NackDelay before a message that was refused comes again. Default: 100 ms.
	NackDelay time.Duration
	// Partitions of a topic that SubscribeInitialize makes. Default: 1.
	Partitions int32
	// Watermill's log of the group's subscriber. Default: none.
	Logger watermill.LoggerAdapter
}

// Subscriber is Watermill's Subscriber on the data lane's driver. Without a group the
// messages of one partition come in order, the next after the one before was
// acknowledged.
type Subscriber struct {
	client *Client
	opts   SubscriberOptions
	group  *kafka.Subscriber // nil without a group

	life context.Context
	stop context.CancelFunc
	mu   sync.Mutex // makes Subscribe and Close exclude each other
	wg   sync.WaitGroup
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber makes a subscriber.
func NewSubscriber(client *Client, opts SubscriberOptions) (*Subscriber, error) {
	if opts.From == 0 {
		opts.From = OffsetOldest
	}
	if opts.From != OffsetOldest && opts.From != OffsetNewest {
		return nil, fmt.Errorf("subscriber: from %d: want OffsetOldest or OffsetNewest", opts.From)
	}
	if opts.NackDelay == 0 {
		opts.NackDelay = 100 * time.Millisecond
	}
	if opts.Partitions == 0 {
		opts.Partitions = 1
	}
	s := &Subscriber{client: client, opts: opts}
	s.life, s.stop = context.WithCancel(context.Background())
	if opts.ConsumerGroup != "" {
		g, err := newKafkaSubscriber(client.cfg, opts.ConsumerGroup, opts.From, opts.NackDelay, opts.Logger)
		if err != nil {
			return nil, err
		}
		s.group = g
	}
	return s, nil
}

// SubscribeInitialize makes the topic if it does not exist.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	ctx, cancel := context.WithTimeout(s.life, s.client.cfg.RetryFor)
	defer cancel()
	return s.client.EnsureTopics(ctx, []TopicSpec{{Name: topic, Partitions: s.opts.Partitions}})
}

// Subscribe reads the topic until ctx is done or Close; then the channel is closed.
// It fails when the topic cannot be found. Where retention overtook it, it goes on at
// the oldest record and says so in the log.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if s.group != nil {
		return s.group.Subscribe(ctx, topic)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, fmt.Errorf("subscribe to topic %s: %w", topic, ErrClosed)
	}
	n, err := s.client.Partitions(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("subscribe to topic %s: %w", topic, err)
	}
	var readers []*Reader
	for p := range n {
		from := s.opts.From
		if from == OffsetNewest {
			// Resolved now: what is published after Subscribe returned must come.
			if _, from, err = s.client.Watermark(ctx, topic, p); err != nil {
				return nil, fmt.Errorf("subscribe to topic %s: %w", topic, err)
			}
		}
		r, err := NewReader(s.client, ReaderOptions{Topic: topic, Partition: p, Offset: from, Prefetch: true})
		if err != nil {
			return nil, fmt.Errorf("subscribe to topic %s: %w", topic, err)
		}
		readers = append(readers, r)
	}
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(s.life, cancel)
	out := make(chan *message.Message)
	var wg sync.WaitGroup
	for _, r := range readers {
		wg.Go(func() { s.deliver(ctx, r, out) })
	}
	s.wg.Go(func() {
		wg.Wait()
		unhook()
		cancel()
		close(out)
	})
	return out, nil
}

// deliver hands over one partition until ctx is done.
func (s *Subscriber) deliver(ctx context.Context, r *Reader, out chan<- *message.Message) {
	defer func() { _ = r.Close() }()
	var pause backoff
	for {
		records, err := r.Poll(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			var gone *OffsetGoneError
			if errors.As(err, &gone) {
				s.client.cfg.Log.Error("records were removed before they were read; going on at what is left", "err", err)
				r.SeekTo(min(max(gone.Asked, gone.Oldest), gone.Next))
			}
			s.client.cfg.retrying("subscribe", err)
			if !pause.wait(ctx, time.Time{}) {
				return
			}
			continue
		}
		pause.reset()
		for i := range records {
			if !s.handOver(ctx, &records[i], out) {
				return
			}
		}
	}
}

// handOver returns when the message is acknowledged; false when ctx is done.
func (s *Subscriber) handOver(ctx context.Context, r *Record, out chan<- *message.Message) bool {
	at := Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
	mctx, cancel := context.WithCancel(context.WithValue(ctx, positionKey{}, at))
	defer cancel()
	for {
		msg := newMessage(at, r.Key, r.Value, r.Headers)
		msg.SetContext(mctx)
		select {
		case out <- msg:
		case <-ctx.Done():
			return false
		}
		select {
		case <-msg.Acked():
			return true
		case <-msg.Nacked():
		case <-ctx.Done():
			return false
		}
		t := time.NewTimer(s.opts.NackDelay)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// Close ends all subscriptions and returns when their channels are closed.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.wg.Wait()
	if s.group != nil {
		if err := s.group.Close(); err != nil {
			return fmt.Errorf("close subscriber of group %s: %w", s.opts.ConsumerGroup, err)
		}
	}
	return nil
}
