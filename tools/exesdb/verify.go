package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/persistence/storage"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/tools/embedded"
)

// verifyCommand checks a stopped store.
type verifyCommand struct {
	DataDir string `name:"data-dir" env:"EXESDB_DATA_DIR" default:"./data" help:"Data directory of \"exesdb up\"."`
	StoreID string `name:"store-id" env:"EXESDB_STORE_ID" default:"exesdb" help:"Name of the store."`
	Kafka   string `name:"kafka-brokers" env:"KAFKA_BROKERS" help:"Compare with the log on this Kafka (comma-separated) instead of the embedded broker's."`
}

// errDamaged ends verify when something is wrong; each finding was printed.
var errDamaged = errors.New("the store is damaged")

// Run walks every shard and prints what is wrong with it.
func (v *verifyCommand) Run(ctx context.Context) error {
	dir := filepath.Join(v.DataDir, "store")
	shards, err := shardsOf(dir)
	if err != nil {
		return err
	}
	store, err := storage.Open(dir, storage.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer store.Close()
	client, closeLog, err := v.log(ctx)
	if err != nil {
		return err
	}
	defer closeLog()
	wrong := 0
	for _, n := range shards {
		found, err := v.shard(ctx, store, n, client)
		if err != nil {
			return err
		}
		wrong += found
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d findings", errDamaged, wrong)
	}
	fmt.Println("clean: versions gapless, ids unique, heads, indexes and outcomes consistent, the log agrees")
	return nil
}

// shardsOf lists the shards that a store has on disk.
func shardsOf(dir string) ([]int32, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "shard-*"))
	if err != nil {
		return nil, fmt.Errorf("list the shards of %s: %w", dir, err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("there is no store in %s (--data-dir)", dir)
	}
	var shards []int32
	for _, p := range paths {
		n, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(p), "shard-"), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s is not a shard: %w", p, err)
		}
		shards = append(shards, int32(n))
	}
	return shards, nil
}

// log connects to the log that the store was applied from.
func (v *verifyCommand) log(ctx context.Context) (*bus.Client, func(), error) {
	brokers, stop := strings.Split(v.Kafka, ","), func() {}
	if v.Kafka == "" {
		broker, err := embedded.StartBroker(embedded.BrokerOptions{Addr: "127.0.0.1:0", Dir: filepath.Join(v.DataDir, "broker")})
		if err != nil {
			return nil, nil, fmt.Errorf("read the log (is the store running? stop it first): %w", err)
		}
		brokers = []string{broker.Addr()}
		stop = func() {
			if err := broker.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "exesdb: close the embedded broker:", err)
			}
		}
	}
	client, err := bus.Dial(ctx, bus.Config{Brokers: brokers, ClientID: "exesdb-verify"})
	if err != nil {
		stop()
		return nil, nil, err
	}
	return client, func() {
		if err := client.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "exesdb: close the connection to the log:", err)
		}
		stop()
	}, nil
}

func (v *verifyCommand) shard(ctx context.Context, store *storage.Store, n int32, client *bus.Client) (int, error) {
	shard, err := store.Shard(n)
	if err != nil {
		return 0, fmt.Errorf("open shard %d (is the store running? stop it first): %w", n, err)
	}
	defer shard.Close()
	bar := progress(-1, fmt.Sprintf("verifying shard %d", n))
	wrong := 0
	report := func(what string) {
		wrong++
		fmt.Printf("shard %d: %s\n", n, what)
	}
	err = shard.Check(ctx, func(p storage.CheckProgress) { _ = bar.Set64(p.Done) },
		func(f storage.Finding) { report(f.What) })
	if err != nil {
		return 0, err
	}
	compared, err := v.compareLog(ctx, shard, client, report)
	if err != nil {
		return 0, err
	}
	state := shard.State()
	fmt.Printf("shard %d: applied through log offset %d, outcome hash %016x, %d records compared with the log\n", n, state.Applied, state.OutcomeHash, compared)
	return wrong, nil
}

// compareLog compares the raw records that the store keeps with those that the log still has.
func (v *verifyCommand) compareLog(ctx context.Context, shard *storage.Shard, client *bus.Client, report func(string)) (int, error) {
	topic := registry.Topic(v.StoreID, registry.WriteCommandValidated)
	oldest, next, err := client.Watermark(ctx, topic, shard.ID())
	if err != nil {
		return 0, fmt.Errorf("read the ends of the log (--store-id %s): %w", v.StoreID, err)
	}
	if applied := shard.State().Applied; next <= applied {
		report(fmt.Sprintf("the log ends at offset %d, the store has applied %d: `exesdb up` gives it back from the store", next-1, applied))
	}
	reader, err := bus.NewReader(client, bus.ReaderOptions{Topic: topic, Partition: shard.ID(), Offset: oldest})
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	compared := 0
	var log []bus.Record
	err = shard.RawRecords(oldest, func(r storage.RawRecord) error {
		if r.Offset >= next {
			return nil
		}
		for len(log) == 0 || log[len(log)-1].Offset < r.Offset {
			polled, err := reader.Poll(ctx)
			if err != nil {
				return fmt.Errorf("read the log: %w", err)
			}
			log = polled
		}
		for len(log) > 0 && log[0].Offset < r.Offset {
			log = log[1:]
		}
		compared++
		if log[0].Offset != r.Offset || !bytes.Equal(log[0].Value, r.Value) {
			report(fmt.Sprintf("the log has another record at offset %d than the one that was applied", r.Offset))
		}
		return nil
	})
	return compared, err
}
