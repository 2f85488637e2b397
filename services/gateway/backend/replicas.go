package backend

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// CaughtUp names the replicas of a shard that have caught up: the leader first. One that is not ready, because its disk
// is full or another of its shards is refused, still serves history.
func CaughtUp(system *apiv1.GetSystemResponse, shard int32) []string {
	var names []string
	for _, n := range system.GetNodes() {
		if n.GetSystem() != string(registry.Persistence) {
			continue
		}
		for _, s := range n.GetShards() {
			switch {
			case s.GetShard() != shard || !s.GetCaughtUp():
			case s.GetLeads():
				names = slices.Insert(names, 0, n.GetNode())
			default:
				names = append(names, n.GetNode())
			}
		}
	}
	return names
}

// FromEnd opens readers that begin where a partition ends at the time of the call.
// It keeps trying until ctx is done, since a partition may be without a leader.
func FromEnd(client *bus.Client) func(ctx context.Context, topic string, partition int32) (Reader, error) {
	return func(ctx context.Context, topic string, partition int32) (Reader, error) {
		const pause = 200 * time.Millisecond
		for {
			_, next, err := client.Watermark(ctx, topic, partition)
			if err == nil {
				return bus.NewReader(client, bus.ReaderOptions{Topic: topic, Partition: partition, Offset: next, Prefetch: true})
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil, fmt.Errorf("find the end of topic %s, partition %d: %w (last attempt: %w)", topic, partition, ctx.Err(), err)
			}
		}
	}
}
