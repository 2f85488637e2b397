// Package runtime is the body of every service: it connects to Kafka and Redis,
// creates the topics of the registry, announces the instance's life, beats its
// heart, and serves health and metrics. It holds no business rule.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/control"
	"github.com/exesdb/exesdb/shared/lease"
	"github.com/exesdb/exesdb/shared/version"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Instance is one running instance of a service.
type Instance struct {
	System  registry.System
	Config  config.Common
	Log     *slog.Logger
	Client  *bus.Client
	Metrics *prometheus.Registry
	Leases  *lease.Client

	incarnation uint64 // when it started, in nanoseconds: a restart is newer
	sequence    atomic.Uint64
	source      string
	ids         bus.EventIDs
	topics      map[string]topic
	publisher   message.Publisher
	admin       *admin

	mu       sync.Mutex
	ready    bool
	waiting  string
	services []string
	progress func() []*eventsv1.ShardProgress
	gate     func() (bool, []string)
	uuid     string
	changed  chan struct{} // has room for one: the heart beats at once
}

// Open connects an instance: it waits for Kafka until ctx is done and creates
// the topics that are missing. Close releases what it opened.
func Open(ctx context.Context, system registry.System, cfg config.Common) (*Instance, error) {
	if cfg.Node == "" {
		cfg.Node = string(system) + "-0"
	}
	i := &Instance{
		System: system, Config: cfg, Log: newLogger(cfg, system), Metrics: newMetrics(),
		incarnation: uint64(time.Now().UnixNano()), //nolint:gosec // after 1970
		source:      bus.EventSource(cfg.StoreID, cfg.Node), topics: topicsOf(cfg.StoreID),
		waiting: "start", changed: make(chan struct{}, 1),
	}
	i.ids = bus.NewEventIDs(cfg.Node, i.incarnation)
	client, err := bus.Dial(ctx, i.busConfig())
	if err != nil {
		return nil, err
	}
	i.Client = client
	if err := client.EnsureTopics(ctx, Topics(cfg)); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	i.publisher, err = bus.NewControlPublisher(i.busConfig(), watermill.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	holder := cfg.Node + "/" + strconv.FormatUint(i.incarnation, 10)
	i.Leases = lease.NewClient(cfg.RedisAddr, cfg.StoreID, holder, cfg.LeaseTTL, i.Log)
	i.admin, err = startAdmin(cfg.AdminAddr, i)
	if err != nil {
		return nil, errors.Join(err, i.publisher.Close(), client.Close())
	}
	return i, nil
}

func (i *Instance) busConfig() bus.Config {
	return bus.Config{Brokers: i.Config.KafkaBrokers, ClientID: i.Config.Node, Log: i.Log}
}

// Close releases the connections.
func (i *Instance) Close() error {
	return errors.Join(i.admin.close(), i.publisher.Close(), i.Leases.Close(), i.Client.Close())
}

// Topics are the registry's, with this store's partitions and retention.
func Topics(cfg config.Common) []bus.TopicSpec {
	var specs []bus.TopicSpec
	for _, e := range registry.Events() {
		configs := registry.TopicConfigs(e)
		if cfg.TopicBytes > 0 && !e.Retention.Compacted() {
			bound := cfg.TopicBytes
			if !e.Sharded() {
				bound /= 8
			}
			configs["retention.bytes"] = strconv.FormatInt(bound, 10)
			configs["segment.bytes"] = strconv.FormatInt(bound/8, 10)
		}
		specs = append(specs, bus.TopicSpec{Name: e.Topic(cfg.StoreID), Partitions: e.Partitions(cfg.Shards), Configs: configs})
	}
	return specs
}

// Topic is the topic of an event in this store.
func (i *Instance) Topic(event string) string { return i.topics[event].name }

// topic is what the registry says of an event's topic, in this store.
type topic struct {
	name    string
	sharded bool
}

func topicsOf(storeID string) map[string]topic {
	topics := map[string]topic{}
	for _, e := range registry.Events() {
		topics[e.Name] = topic{e.Topic(storeID), e.Sharded()}
	}
	return topics
}

// AdminAddr is where health and metrics are served.
func (i *Instance) AdminAddr() string { return i.admin.addr }

// Node is the instance's name.
func (i *Instance) Node() string { return i.Config.Node }

// Record makes a record of an event for the data lane, in its envelope.
func (i *Instance) Record(event, key string, partition int32, msg proto.Message) (bus.Record, error) {
	value, err := proto.Marshal(msg)
	if err != nil {
		return bus.Record{}, fmt.Errorf("encode %s: %w", event, err)
	}
	envelope, to := i.envelope(event, key), i.topics[event]
	if to.sharded {
		envelope = envelope.Slim() // each write makes seven of these
	}
	return bus.Record{
		Topic: to.name, Partition: partition, Key: []byte(key), Value: value,
		Headers: envelope.Headers(),
	}, nil
}

func (i *Instance) envelope(event, subject string) bus.Event {
	seq := i.sequence.Add(1)
	return bus.Event{
		ID:     i.ids.Of(seq),
		Source: i.source, Type: event, Subject: subject, Time: time.Now(),
		StoreID: i.Config.StoreID, Node: i.Config.Node, Incarnation: i.incarnation, Sequence: seq,
	}
}

// Publish publishes an event on the control lane, keyed as the registry says.
func (i *Instance) Publish(ctx context.Context, event, key string, msg proto.Message) error {
	m, err := control.Codec{}.Marshal(msg)
	if err != nil {
		return err
	}
	envelope := i.envelope(event, key)
	m.UUID = envelope.ID
	m.Metadata.Set(bus.MetadataKey, key)
	for _, h := range envelope.Headers() {
		m.Metadata.Set(h.Key, string(h.Value))
	}
	m.SetContext(ctx)
	if err := i.publisher.Publish(i.Topic(event), m); err != nil {
		return fmt.Errorf("publish %s: %w", event, err)
	}
	return nil
}

// Control makes a router for the instance's policies.
func (i *Instance) Control() (*control.Router, error) {
	return control.NewRouter(control.Options{
		StoreID: i.Config.StoreID, Log: i.Log, Registerer: i.Metrics, Publisher: i.publisher,
		Subscribe: func(from control.From) (message.Subscriber, error) {
			start := bus.OffsetOldest
			if from == control.Newest {
				start = bus.OffsetNewest
			}
			return bus.NewSubscriber(i.Client, bus.SubscriberOptions{From: start})
		},
	})
}

// Ready says that the instance can do its work, with these services.
func (i *Instance) Ready(services ...string) { i.setReady(true, "", services) }

// NotReady says what the instance waits for.
func (i *Instance) NotReady(waitingFor string) { i.setReady(false, waitingFor, nil) }

func (i *Instance) setReady(ready bool, waiting string, services []string) {
	i.mu.Lock()
	changed := i.ready != ready || i.waiting != waiting
	i.ready, i.waiting, i.services = ready, waiting, services
	i.mu.Unlock()
	if changed {
		select {
		case i.changed <- struct{}{}:
		default:
		}
	}
}

// ReadyWhile keeps readiness up to date until ctx is done: waiting says what is
// waited for, "" when nothing is.
func (i *Instance) ReadyWhile(ctx context.Context, every time.Duration, services []string, waiting func() string) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		w := i.Leases.Explain(waiting())
		i.setReady(w == "", w, services)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// IsReady tells whether the instance is ready, and what it waits for if not.
func (i *Instance) IsReady() (bool, string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ready, i.waiting
}

// SetGate makes /readyz ask the whole system too: a gateway that is up answers 503
// until the system is ready. Heartbeats speak for the instance alone, because the
// system waits for it in turn.
func (i *Instance) SetGate(ready func() (ok bool, missing []string)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gate = ready
}

// serving is IsReady and the gate: what /readyz says.
func (i *Instance) serving() (bool, string) {
	i.mu.Lock()
	ready, waiting, gate := i.ready, i.waiting, i.gate
	i.mu.Unlock()
	if !ready || gate == nil {
		return ready, waiting
	}
	ok, missing := gate()
	return ok, strings.Join(missing, "; ")
}

// SetProgress gives the heartbeat its progress per shard and the store's identity.
func (i *Instance) SetProgress(progress func() []*eventsv1.ShardProgress, storeUUID string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.progress, i.uuid = progress, storeUUID
}

func (i *Instance) heartbeat() *eventsv1.NodeHeartbeat {
	i.mu.Lock()
	defer i.mu.Unlock()
	beat := &eventsv1.NodeHeartbeat{
		Node: i.Config.Node, System: string(i.System), Version: version.String(), Address: i.admin.addr,
		Ready: i.ready, WaitingFor: i.waiting, StoreUuid: i.uuid,
	}
	if i.progress != nil {
		beat.Shards = i.progress()
	}
	return beat
}
