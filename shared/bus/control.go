package bus

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// NewControlPublisher makes the control lane's publisher: acks=all, idempotent, one
// message at a time. The record's key is the message's [MetadataKey]. It fails when no
// broker answers; [Dial] waits for one.
func NewControlPublisher(cfg Config, logger watermill.LoggerAdapter) (message.Publisher, error) {
	sc, err := controlConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("control publisher: %w", err)
	}
	p, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: cfg.Brokers, Marshaler: marshaler{}, OverwriteSaramaConfig: sc,
	}, logger)
	if err != nil {
		return nil, fmt.Errorf("control publisher: %w", err)
	}
	return p, nil
}

// NewControlSubscriber makes a subscriber of the control lane. With group "" every
// instance reads everything from the oldest record on; with a group, its instances
// share. Have one group per (service, handler): a group shared by several topics makes
// every join rebalance all of them. The topics must exist.
func NewControlSubscriber(cfg Config, group string, logger watermill.LoggerAdapter) (message.Subscriber, error) {
	return newKafkaSubscriber(cfg, group, OffsetOldest, 100*time.Millisecond, logger)
}

func newKafkaSubscriber(cfg Config, group string, from int64, nackDelay time.Duration, logger watermill.LoggerAdapter) (*kafka.Subscriber, error) {
	sc, err := controlConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("control subscriber of group %q: %w", group, err)
	}
	sc.Consumer.Offsets.Initial = from
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: cfg.Brokers, Unmarshaler: marshaler{}, OverwriteSaramaConfig: sc,
		ConsumerGroup: group, NackResendSleep: nackDelay, ReconnectRetrySleep: 200 * time.Millisecond,
	}, logger)
	if err != nil {
		return nil, fmt.Errorf("control subscriber of group %q: %w", group, err)
	}
	return s, nil
}

// controlConfig replaces the defaults that are wrong for us: sarama's acks=1, newest
// offset, three retries of a producer and two seconds between a consumer's.
func controlConfig(cfg Config) (*sarama.Config, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s, err := cfg.sarama()
	if err != nil {
		return nil, err
	}
	// Every step of the way outlasts the failover of a broker, in steps of 100 ms.
	retries := max(1, int(cfg.RetryFor/(100*time.Millisecond)))
	s.Metadata.Retry.Max = retries
	s.Metadata.Retry.Backoff = 100 * time.Millisecond
	s.Metadata.Timeout = cfg.RetryFor

	s.Net.MaxOpenRequests = 1 // sarama's condition for an idempotent producer
	s.Producer.Idempotent = true
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Timeout = cfg.RequestTimeout
	s.Producer.Retry.Max = retries
	s.Producer.Retry.Backoff = 100 * time.Millisecond
	s.Producer.Return.Successes = true
	s.Producer.Return.Errors = true
	s.Producer.Partitioner = sarama.NewHashPartitioner

	s.Consumer.Return.Errors = true
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.Retry.Backoff = 100 * time.Millisecond
	s.Consumer.Fetch.Default = 1 << 20
	s.Consumer.Fetch.Max = 0 // a batch may be as large as the topic allows
	s.Consumer.MaxWaitTime = 250 * time.Millisecond
	s.Consumer.MaxProcessingTime = time.Second
	s.Consumer.Group.Session.Timeout = 10 * time.Second
	s.Consumer.Group.Heartbeat.Interval = time.Second
	// A member whose handler is in the middle of a message, or whose messages nobody
	// takes, holds up the whole group for this long. It then loses its place, and
	// the message comes again.
	s.Consumer.Group.Rebalance.Timeout = 5 * time.Second
	// A join is answered when the rebalance is over: giving up before would begin
	// another one, for ever.
	s.Net.ReadTimeout = s.Consumer.Group.Rebalance.Timeout + cfg.RequestTimeout + time.Second
	s.Consumer.Group.Rebalance.Retry.Max = retries
	s.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	s.Consumer.Offsets.Retry.Max = retries
	return s, nil
}

// marshaler keeps keys, and headers as metadata. Unmarshal never fails: in
// watermill-kafka a record that cannot be read would stop the group for ever; the
// handlers send what they do not understand to the poison topic, with the reason.
type marshaler struct{}

var _ kafka.MarshalerUnmarshaler = marshaler{}

// Marshal implements kafka.Marshaler.
func (marshaler) Marshal(topic string, msg *message.Message) (*sarama.ProducerMessage, error) {
	key, hs := messageHeaders(msg)
	out := &sarama.ProducerMessage{Topic: topic, Headers: make([]sarama.RecordHeader, len(hs))}
	for i := range hs {
		out.Headers[i] = sarama.RecordHeader{Key: []byte(hs[i].Key), Value: hs[i].Value}
	}
	if msg.Payload != nil {
		out.Value = sarama.ByteEncoder(msg.Payload)
	}
	if key != nil {
		out.Key = sarama.ByteEncoder(key)
	}
	return out, nil
}

// Unmarshal implements kafka.Unmarshaler.
func (marshaler) Unmarshal(m *sarama.ConsumerMessage) (*message.Message, error) {
	hs := make([]Header, len(m.Headers))
	for i, h := range m.Headers {
		hs[i] = Header{Key: headerKey(h.Key), Value: h.Value}
	}
	return newMessage(Position{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset}, m.Key, m.Value, hs), nil
}
