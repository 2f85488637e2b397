package bus

import (
	"context"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Watermill's own suite, in its short form: it is about semantics, not load.
func TestWatermillSuite(t *testing.T) {
	k := newCluster(t, 1)
	c := dial(t, configOf(k))
	build := func(t *testing.T) (message.Publisher, message.Subscriber) {
		s, err := NewSubscriber(c, SubscriberOptions{NackDelay: 1})
		if err != nil {
			t.Fatal(err)
		}
		return NewPublisher(c, PublisherOptions{}), s
	}
	tests.TestPubSub(t, tests.Features{
		Persistent:                       true,
		GuaranteedOrder:                  true,
		NewSubscriberReceivesOldMessages: true,
		ForceShort:                       true,
	}, build, nil)
}

func TestWatermillSuiteWithGroups(t *testing.T) {
	k := newCluster(t, 1, kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	c := dial(t, configOf(k))
	build := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		s, err := NewSubscriber(c, SubscriberOptions{NackDelay: 1, ConsumerGroup: group, Partitions: 3})
		if err != nil {
			t.Fatal(err)
		}
		return NewPublisher(c, PublisherOptions{}), s
	}
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
		ForceShort:     true,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) { return build(t, t.Name()) }, build) // a group of its own per test: sharing one makes every join rebalance all
}

func TestPublishKeepsEnvelope(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(3, "t"))
	c := dial(t, configOf(k))
	control, err := NewControlPublisher(configOf(k), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	everyone, err := NewControlSubscriber(configOf(k), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer everyone.Close()
	grouped, err := NewControlSubscriber(configOf(k), "handler", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer grouped.Close()
	data := NewPublisher(c, PublisherOptions{})
	defer data.Close()
	mine, err := NewSubscriber(c, SubscriberOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()

	e := Event{ID: "e1", Type: "node_discovered", Source: "/cluster"}
	for _, pub := range []message.Publisher{control, data} { // same key, so same partition on both lanes
		msg := message.NewMessage("e1", []byte("body"))
		msg.Metadata = message.Metadata{MetadataKey: "store-0"}
		for _, h := range e.Headers() {
			msg.Metadata[h.Key] = string(h.Value)
		}
		if err := pub.Publish("t", msg); err != nil {
			t.Fatal(err)
		}
	}
	// What no publisher of ours wrote: no headers, no value. It must not stop a subscriber.
	var at Position
	for _, sub := range []message.Subscriber{everyone, grouped, mine} {
		ctx, cancel := context.WithCancel(within(t))
		ch, err := sub.Subscribe(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			msg, ok := <-ch
			if !ok {
				t.Fatal("channel closed")
			}
			p, ok := MessagePosition(msg.Context())
			if !ok || p.Offset != int64(i) || (at != Position{} && p.Partition != at.Partition) {
				t.Errorf("position %+v", p)
			}
			at = p
			if msg.UUID != "e1" || string(msg.Payload) != "body" || msg.Metadata[MetadataKey] != "store-0" || msg.Metadata[HeaderType] != "node_discovered" {
				t.Errorf("message %s %s %v", msg.UUID, msg.Payload, msg.Metadata)
			}
			msg.Ack()
		}
		cancel()
	}
	p := newProducer(t, c)
	if _, err := p.Append(within(t), "t", at.Partition, []Record{{}}); err != nil {
		t.Fatal(err)
	}
	ch, err := everyone.Subscribe(within(t), "t")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		(<-ch).Ack()
	}
	junk := <-ch
	if junk.UUID == "" || len(junk.Payload) != 0 {
		t.Errorf("junk came as %q %q", junk.UUID, junk.Payload)
	}
	junk.Ack()
}
