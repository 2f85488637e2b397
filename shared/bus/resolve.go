package bus

import (
	"context"
	"fmt"
	"time"
)

// lookUps is how often the tail of the log is read for a batch that is not found: it
// may be above the high watermark still.
const lookUps = 5

// settle reads the log for a batch about which the broker cannot tell.
func (p *Producer) settle(ctx context.Context, b *batch) {
	base, found, err := p.find(ctx, b)
	switch {
	case err != nil:
		b.cause = fmt.Errorf("look the batch up in the log: %w", err)
	case found:
		b.succeed(base)
	default:
		b.looked++
		b.cause = fmt.Errorf("the batch of producer %d epoch %d sequence %d is not in the log from offset %d on",
			b.rb.ProducerID, b.rb.ProducerEpoch, b.rb.FirstSequence, b.lane.floor)
		if b.looked >= lookUps {
			// It is not sent again under another identity: a copy may still be under way.
			b.fail(b.cause)
		}
	}
}

// find reads the partition from the end that was known before the call to the end
// that it has now, for our batch by its header.
func (p *Producer) find(ctx context.Context, b *batch) (base int64, found bool, err error) {
	l := b.lane
	p.client.forget(l.topicPartition)
	addr, err := p.client.leader(ctx, l.topicPartition)
	if err != nil {
		return 0, false, err
	}
	oldest, end, err := p.client.Watermark(ctx, l.topic, l.partition)
	if err != nil {
		return 0, false, err
	}
	k := p.client.open(addr)
	defer k.kill()
	defer context.AfterFunc(ctx, k.kill)()
	if err := k.await(ctx); err != nil {
		return 0, false, err
	}
	size := int32(MaxMessageBytes)
	for at := max(l.floor, oldest); at < end; {
		f, err := fetch(k, l.topicPartition, at, fetchSize{wait: 100 * time.Millisecond, least: 1, most: size})
		if err != nil {
			return 0, false, err
		}
		next := at
		for _, rb := range f.batches {
			if rb.ProducerID == b.rb.ProducerID && rb.ProducerEpoch == b.rb.ProducerEpoch && rb.FirstSequence == b.rb.FirstSequence && !rb.Control {
				return rb.FirstOffset, true, nil
			}
			next = max(next, rb.LastOffset()+1)
		}
		if next == at {
			return 0, false, fmt.Errorf("no progress at offset %d of %d", at, end)
		}
		at = next
	}
	return 0, false, nil
}
