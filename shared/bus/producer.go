package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	// ErrOutcomeUnknown says that the records of a call may have been written, may be
	// written still, or not. The call must be settled by who knows what it meant: read
	// the log, or write something that makes the first copy count for nothing.
	ErrOutcomeUnknown = errors.New("outcome unknown: the records may have been written")
	// ErrTooLarge says that a batch is larger than [MaxBatchBytes]. Nothing was sent.
	ErrTooLarge = errors.New("record batch too large")
	// ErrClosed says that the producer, reader or subscriber was closed.
	ErrClosed = errors.New("closed")
)

// Producer writes record batches, each exactly once, with acks=all. Have one per
// stage, not per shard. Calls for one partition go one after the other, in the order
// in which they came; calls for different partitions run at the same time. It is safe
// for concurrent use.
//
// Keys, values and header values must not be changed during a call, nor after a call
// that returned [ErrOutcomeUnknown]: the request may still be on its way.
type Producer struct {
	client *Client

	mu     sync.Mutex
	closed bool
	conns  map[string]*conn // by address
	lanes  map[topicPartition]*lane

	identTurn chan struct{} // held while a producer id is being asked for
	ident     identity      // newest; guarded by identTurn
}

// identity is a producer id with its epoch. gen counts those of one Producer, from
// 1; Invariant: a lane only ever moves to a higher gen, so a sequence never restarts
// under an identity that the partition has seen.
type identity struct {
	gen   int
	id    int64
	epoch int16
}

// lane is the producer's state for one partition. All but turn is guarded by turn.
type lane struct {
	topicPartition
	turn  chan struct{} // holds a token while a call is going on
	ident identity
	stale bool  // a call failed under ident: take another before the next call
	seq   int32 // of the next record
	floor int64 // nothing of the next call can be below this offset; -1 if not known
}

// NewProducer makes a producer; it connects and gets its producer id at first use.
func NewProducer(client *Client) *Producer {
	return &Producer{
		client: client, conns: map[string]*conn{}, lanes: map[topicPartition]*lane{},
		identTurn: make(chan struct{}, 1),
	}
}

// Close closes the producer's connections. Calls that are going on fail with
// [ErrClosed], and with [ErrOutcomeUnknown] if their request was sent.
func (p *Producer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for addr, k := range p.conns {
		k.kill()
		delete(p.conns, addr)
	}
	return nil
}

// Append writes the records as one batch: all of them become visible or none, in
// order and contiguous at baseOffset. Topic and Partition of the records are ignored.
//
// It retries under the same sequence until ctx is done or Config.RetryFor has passed.
// Errors: [ErrTooLarge]; [ErrOutcomeUnknown] when an attempt may have been written;
// any other error means that nothing was written and never will be.
func (p *Producer) Append(ctx context.Context, topic string, partition int32, records []Record) (baseOffset int64, err error) {
	if len(records) == 0 {
		return -1, fmt.Errorf("append to topic %s partition %d: no records", topic, partition)
	}
	source := make([]*Record, len(records))
	for i := range records {
		source[i] = &records[i]
	}
	l := p.lane(topicPartition{topic, partition})
	b := newBatch(l, source)
	if b.bytes > MaxBatchBytes {
		return -1, fmt.Errorf("append to topic %s partition %d: %w: %d bytes, at most %d", topic, partition, ErrTooLarge, b.bytes, MaxBatchBytes)
	}
	if err := l.take(ctx); err != nil {
		return -1, fmt.Errorf("append to topic %s partition %d: wait for the calls before: %w", topic, partition, err)
	}
	p.run(ctx, []*batch{b})
	if b.err != nil {
		return -1, fmt.Errorf("append to topic %s partition %d: %w", topic, partition, b.err)
	}
	return b.base, nil
}

// PartitionError is what became of one partition's records in a [Producer.Send].
type PartitionError struct {
	Topic     string
	Partition int32
	// Written is how many of the partition's records were written, in order, before
	// the one batch that Err is about. Nothing after that batch was sent.
	Written int
	Err     error
}

func (e *PartitionError) Error() string {
	return fmt.Sprintf("topic %s partition %d after %d records: %v", e.Topic, e.Partition, e.Written, e.Err)
}

// Unwrap gives the cause, [ErrOutcomeUnknown] among others.
func (e *PartitionError) Unwrap() error { return e.Err }

// PartialError says which partitions of a [Producer.Send] failed; those that it does
// not name were written in full.
type PartialError struct{ Failed []*PartitionError }

func (e *PartialError) Error() string {
	parts := make([]string, len(e.Failed))
	for i, f := range e.Failed {
		parts[i] = f.Error()
	}
	return "send: " + strings.Join(parts, "; ")
}

// Unwrap gives the error of each partition that failed.
func (e *PartialError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f
	}
	return errs
}

// Send writes records of any number of partitions, named by their Topic and
// Partition, with one request per leader. The order within each partition is that of
// the slice. A partition's records are one batch, or several if that would be larger
// than [MaxBatchBytes]. It sets the Offset of each record: where it was written, or
// -1. The error, if any, is a *[PartialError].
func (p *Producer) Send(ctx context.Context, records []Record) error {
	type share struct {
		lane    *lane
		batches []*batch
		written int
		err     error // about a record that is too large
		stopped bool  // a batch failed: nothing after it is sent
	}
	var (
		shares []*share
		byTP   = map[topicPartition]int{}
		split  [][]*Record
	)
	for i := range records {
		r := &records[i]
		r.Offset = -1
		tp := topicPartition{r.Topic, r.Partition}
		at, ok := byTP[tp]
		if !ok {
			at = len(shares)
			byTP[tp] = at
			shares = append(shares, &share{lane: p.lane(tp)})
			split = append(split, nil)
		}
		split[at] = append(split[at], r)
	}
	// Always in the same order, so that two calls cannot wait for each other.
	order := make([]int, len(shares))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := shares[a].lane, shares[b].lane
		if c := strings.Compare(x.topic, y.topic); c != 0 {
			return c
		}
		return int(x.partition) - int(y.partition)
	})
	waves := 0
	for i, s := range shares {
		s.batches, s.err = cut(s.lane, split[i])
		waves = max(waves, len(s.batches))
	}
	for w := range waves {
		var now []*batch
		for _, i := range order {
			s := shares[i]
			if w > 0 && w <= len(s.batches) && s.batches[w-1].err != nil {
				s.stopped = true
			}
			if w >= len(s.batches) || s.stopped {
				continue
			}
			b := s.batches[w]
			if err := s.lane.take(ctx); err != nil {
				b.err = fmt.Errorf("wait for the calls before: %w", err)
				continue
			}
			now = append(now, b)
		}
		p.run(ctx, now)
	}
	var failed []*PartitionError
	for _, i := range order {
		s := shares[i]
		err := s.err
		for _, b := range s.batches {
			if b.err != nil {
				err = b.err
				break
			}
			for j, r := range b.source {
				r.Offset = b.base + int64(j)
			}
			s.written += len(b.source)
		}
		if err != nil {
			failed = append(failed, &PartitionError{Topic: s.lane.topic, Partition: s.lane.partition, Written: s.written, Err: err})
		}
	}
	if failed != nil {
		return &PartialError{Failed: failed}
	}
	return nil
}

// cut makes batches of at most MaxBatchBytes. A record that is too large alone ends
// it; the batches before it are returned with the error.
func cut(l *lane, records []*Record) ([]*batch, error) {
	var batches []*batch
	from, size := 0, batchHeaderBytes
	for i, r := range records {
		// A delta's size grows with its value; ten bytes are the most.
		n := r.encodedBytes(int64(i-from), 0) + 10
		if batchHeaderBytes+n > MaxBatchBytes {
			if i > from {
				batches = append(batches, newBatch(l, records[from:i]))
			}
			return batches, fmt.Errorf("%w: a record of %d bytes, at most %d", ErrTooLarge, n, MaxBatchBytes)
		}
		if size+n > MaxBatchBytes {
			batches = append(batches, newBatch(l, records[from:i]))
			from, size = i, batchHeaderBytes
		}
		size += n
	}
	return append(batches, newBatch(l, records[from:])), nil
}

func (p *Producer) lane(tp topicPartition) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[tp]
	if l == nil {
		l = &lane{topicPartition: tp, turn: make(chan struct{}, 1), floor: -1}
		p.lanes[tp] = l
	}
	return l
}

func (l *lane) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lane) release() { <-l.turn }

// run brings every batch to its end. The caller holds the lanes' turns; each is
// released as soon as its batch is done.
func (p *Producer) run(ctx context.Context, pending []*batch) {
	deadline := time.Now().Add(p.client.cfg.RetryFor)
	var pause backoff
	for len(pending) > 0 {
		p.attempt(ctx, pending)
		left := pending[:0:len(pending)]
		for _, b := range pending {
			if !b.done && ctx.Err() != nil {
				b.giveUp(ctx.Err())
			}
			if b.done {
				b.lane.release()
				continue
			}
			left = append(left, b)
		}
		if pending = left; len(pending) == 0 {
			return
		}
		p.client.cfg.retrying(fmt.Sprintf("append to topic %s partition %d", pending[0].lane.topic, pending[0].lane.partition), pending[0].cause)
		if !pause.wait(ctx, deadline) {
			for _, b := range pending {
				if err := ctx.Err(); err != nil {
					b.giveUp(err)
				} else {
					b.giveUp(fmt.Errorf("gave up after %v", p.client.cfg.RetryFor))
				}
				b.lane.release()
			}
			return
		}
	}
}

// succeed ends the batch as written at base.
func (b *batch) succeed(base int64) {
	l := b.lane
	if base < l.floor {
		// Not ours, or the log was cut or made anew: either way not to be trusted.
		floor := l.floor
		l.floor = -1
		b.maybe = true
		b.fail(fmt.Errorf("the broker reports offset %d, below %d where the log had ended: the log went back", base, floor))
		return
	}
	b.done, b.base = true, base
	n := int32(len(b.rb.Records))
	l.seq += n
	l.floor = base + int64(n)
}

// giveUp ends the batch without a verdict from the broker.
func (b *batch) giveUp(why error) {
	if b.cause != nil && !errors.Is(b.cause, why) {
		why = fmt.Errorf("%w (last attempt: %w)", why, b.cause)
	}
	b.fail(why)
}

// fail ends the batch. Whatever was or was not written, the sequence is not used
// again: the lane's next call has another identity.
func (b *batch) fail(why error) {
	b.done = true
	b.lane.stale = true
	if b.maybe {
		b.err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, why)
	} else {
		b.err = why
	}
}
