package embedded

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// compactFrom is by how much the compacted topics must have grown before they are rewritten: rewriting stops
// the broker for as long as it takes.
const compactFrom = 8 << 20

func (b *Broker) sweepUntil(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// The next tick tries again; until then the log is longer than it should be, and nothing else.
			if err := b.sweep(compactFrom); err != nil {
				b.log.Warn("sweep embedded broker", "dir", b.dir, "error", err)
			}
		}
	}
}

// sweep drops what retention allows to be dropped, and compacts once the compacted topics have doubled and grown by
// more than minGrowth bytes.
func (b *Broker) sweep(minGrowth int64) error {
	topics, err := readTopics(b.dir)
	if err != nil {
		return err
	}
	// The order matters: a partition's end is on disk before its last record may go.
	if err := b.recordEnds(topics); err != nil {
		return fmt.Errorf("record end offsets: %w", err)
	}
	b.cluster.ApplyRetention()

	size := b.sizeOfCompacted(topics)
	if growth := size - b.compactedSize; growth <= minGrowth || size < 2*b.compactedSize {
		return nil
	}
	if err := b.compact(topics); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	b.compactedSize = b.sizeOfCompacted(topics)
	return nil
}

func (b *Broker) recordEnds(topics []brokerTopic) error {
	ends := make(endOffsets, len(topics))
	for _, t := range topics {
		te := topicEnds{ID: string(t.ID), Ends: make([]int64, t.Partitions)}
		for _, p := range b.cluster.PartitionInfos(t.Name) {
			if int(p.Partition) < len(te.Ends) {
				te.Ends[p.Partition] = p.HighWatermark
			}
		}
		ends[t.Name] = te
	}
	same := func(x, y topicEnds) bool { return x.ID == y.ID && slices.Equal(x.Ends, y.Ends) }
	if maps.EqualFunc(ends, b.ends, same) {
		return nil
	}
	if err := ends.write(b.dir); err != nil {
		return err
	}
	b.ends = ends
	return nil
}

func (b *Broker) sizeOfCompacted(topics []brokerTopic) int64 {
	var size int64
	for _, t := range topics {
		if !t.compacted() {
			continue
		}
		for _, p := range b.cluster.PartitionInfos(t.Name) {
			size += p.NumBytes
		}
	}
	return size
}
