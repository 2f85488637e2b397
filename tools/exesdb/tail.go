package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
)

// tailCommand follows topics.
type tailCommand struct {
	Events  []string `arg:"" help:"Events of the catalogue, or \"all\"."`
	StoreID string   `name:"store-id" env:"EXESDB_STORE_ID" default:"exesdb" help:"Name of the store."`
	Brokers []string `name:"kafka-brokers" env:"KAFKA_BROKERS" default:"127.0.0.1:9092" help:"Kafka bootstrap addresses."`
	Shards  int32    `name:"shards" env:"EXESDB_SHARDS" default:"1" help:"Partitions of the log."`
	Oldest  bool     `name:"oldest" help:"From the oldest record that is kept; default is from now on."`
}

// tailLine is one record.
type tailLine struct {
	Event     string          `json:"event"`
	Time      time.Time       `json:"time"`
	Node      string          `json:"node,omitempty"`
	Key       string          `json:"key"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Value     json.RawMessage `json:"value"`
}

// Run prints records until it is stopped.
func (t *tailCommand) Run(ctx context.Context) error {
	var events []registry.Event
	for _, name := range t.Events {
		if name == "all" {
			events = registry.Events()
			break
		}
		e, ok := registry.ByName(name)
		if !ok {
			return fmt.Errorf("no event %q in the catalogue; there are: %s", name, strings.Join(names(), ", "))
		}
		events = append(events, e)
	}
	client, err := bus.Dial(ctx, bus.Config{Brokers: t.Brokers, ClientID: "exesdb-tail"})
	if err != nil {
		return err
	}
	defer client.Close()
	var printing sync.Mutex
	colours := term.IsTerminal(int(os.Stdout.Fd())) //nolint:gosec // a file descriptor
	g, ctx := errgroup.WithContext(ctx)
	for _, e := range events {
		for partition := range e.Partitions(t.Shards) {
			g.Go(func() error {
				return t.follow(ctx, client, e, partition, func(r bus.Record) error {
					printing.Lock()
					defer printing.Unlock()
					return printRecord(e, r, colours)
				})
			})
		}
	}
	return g.Wait()
}

func names() []string {
	var all []string
	for _, e := range registry.Events() {
		all = append(all, e.Name)
	}
	slices.Sort(all)
	return all
}

func (t *tailCommand) follow(ctx context.Context, client *bus.Client, e registry.Event, partition int32, show func(bus.Record) error) error {
	from := bus.OffsetNewest
	if t.Oldest {
		from = bus.OffsetOldest
	}
	reader, err := bus.NewReader(client, bus.ReaderOptions{Topic: e.Topic(t.StoreID), Partition: partition, Offset: from})
	if err != nil {
		return fmt.Errorf("follow %s: %w", e.Name, err)
	}
	defer reader.Close()
	for {
		records, err := reader.Poll(ctx)
		if err != nil {
			return fmt.Errorf("follow %s: %w", e.Name, err)
		}
		for _, r := range records {
			if err := show(r); err != nil {
				return err
			}
		}
	}
}

func printRecord(e registry.Event, r bus.Record, colours bool) error {
	message := e.Message()
	value, err := []byte(nil), proto.Unmarshal(r.Value, message)
	if err == nil {
		value, err = protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	}
	if err != nil {
		value, _ = json.Marshal(map[string]string{"unreadable": err.Error()})
	}
	envelope, _ := bus.ParseEvent(r.Headers) // of a record that is none, what could be read
	line, err := json.Marshal(tailLine{e.Name, r.Timestamp, envelope.Node, string(r.Key), r.Partition, r.Offset, value})
	if err != nil {
		return fmt.Errorf("print %s at offset %d: %w", e.Name, r.Offset, err)
	}
	if colours {
		line = []byte(strings.Replace(string(line), `"`+e.Name+`"`, "\x1b[33m\""+e.Name+"\"\x1b[0m", 1))
	}
	_, err = fmt.Println(string(line))
	return err
}
