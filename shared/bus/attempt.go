package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/IBM/sarama"
)

// parcel is one produce request: batches for one broker.
type parcel struct {
	addr    string
	bytes   int
	batches []*batch
}

// attempt sends every batch once, or looks it up, and judges what came of it.
func (p *Producer) attempt(ctx context.Context, pending []*batch) {
	var parcels []*parcel
	for _, b := range pending {
		b.cause = nil
		if b.lookUp {
			p.settle(ctx, b)
			continue
		}
		if err := p.prepare(ctx, b); err != nil {
			b.notSent(err)
			continue
		}
		addr, err := p.client.leader(ctx, b.lane.topicPartition)
		if err != nil {
			b.notSent(err)
			continue
		}
		var q *parcel
		for _, c := range parcels {
			if c.addr == addr && c.bytes+b.bytes <= maxRequestBytes {
				q = c
				break
			}
		}
		if q == nil {
			q = &parcel{addr: addr}
			parcels = append(parcels, q)
		}
		q.bytes += b.bytes
		q.batches = append(q.batches, b)
	}
	if len(parcels) == 1 {
		p.post(ctx, parcels[0])
		return
	}
	done := make(chan struct{}, len(parcels))
	for _, q := range parcels {
		go func() {
			p.post(ctx, q)
			done <- struct{}{}
		}()
	}
	for range parcels {
		<-done
	}
}

// prepare gives the batch its identity and sequence, which it keeps for as long as an
// attempt may have been written.
func (p *Producer) prepare(ctx context.Context, b *batch) error {
	if b.prepared {
		return nil
	}
	l := b.lane
	if l.floor < 0 {
		// Taken before the first attempt, so that a look-up knows where to start.
		_, next, err := p.client.Watermark(ctx, l.topic, l.partition)
		if err != nil {
			return err
		}
		l.floor = next
	}
	if l.ident.gen == 0 || l.stale || l.seq > math.MaxInt32-int32(len(b.rb.Records)) {
		ident, err := p.identity(ctx, l.ident.gen)
		if err != nil {
			return err
		}
		l.ident, l.seq, l.stale = ident, 0, false
	}
	b.rb.ProducerID, b.rb.ProducerEpoch, b.rb.FirstSequence = l.ident.id, l.ident.epoch, l.seq
	b.prepared = true
	return nil
}

// identity returns one that is newer than gen.
func (p *Producer) identity(ctx context.Context, gen int) (identity, error) {
	select {
	case p.identTurn <- struct{}{}:
		defer func() { <-p.identTurn }()
	case <-ctx.Done():
		return identity{}, fmt.Errorf("get a producer id: %w", ctx.Err())
	}
	if p.ident.gen > gen {
		return p.ident, nil
	}
	res, err := call(ctx, func() (*sarama.InitProducerIDResponse, error) {
		b := p.client.sarama.LeastLoadedBroker()
		if b == nil {
			return nil, sarama.ErrOutOfBrokers
		}
		// No id of our own to go on with: a new one is never out of sequence.
		res, err := b.InitProducerID(&sarama.InitProducerIDRequest{Version: 4, ProducerID: -1, ProducerEpoch: -1})
		if err != nil {
			_ = b.Close()
			_ = p.client.sarama.RefreshMetadata()
		}
		return res, err
	})
	if err == nil && res.Err != sarama.ErrNoError {
		err = res.Err
	}
	if err != nil {
		return identity{}, fmt.Errorf("get a producer id: %w", err)
	}
	p.ident = identity{gen: p.ident.gen + 1, id: res.ProducerID, epoch: res.ProducerEpoch}
	return p.ident, nil
}

// conn returns the producer's own connection to that broker.
func (p *Producer) conn(addr string) (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("producer: %w", ErrClosed)
	}
	k := p.conns[addr]
	if k == nil {
		k = p.client.open(addr)
		p.conns[addr] = k
	}
	return k, nil
}

// drop kills a connection that failed.
func (p *Producer) drop(k *conn) {
	p.mu.Lock()
	if p.conns[k.addr] == k {
		delete(p.conns, k.addr)
	}
	p.mu.Unlock()
	k.kill()
}

// post sends a parcel, waits for the answer and judges each batch.
func (p *Producer) post(ctx context.Context, q *parcel) {
	k, err := p.conn(q.addr)
	if err == nil {
		if err = k.await(ctx); err != nil && ctx.Err() == nil {
			p.drop(k)
		}
	}
	if err != nil {
		for _, b := range q.batches {
			p.client.forget(b.lane.topicPartition)
			b.notSent(err)
		}
		return
	}
	req := &sarama.ProduceRequest{
		// Version 10 needs a protocol level of 3.7; what a broker does not have is negotiated down.
		Version: 9, RequiredAcks: sarama.WaitForAll,
		Timeout: int32(p.client.cfg.RequestTimeout / time.Millisecond),
	}
	for _, b := range q.batches {
		req.AddBatch(b.lane.topic, b.lane.partition, b.rb)
	}
	type answer struct {
		res *sarama.ProduceResponse
		err error
	}
	ch := make(chan answer, 2)
	go func() { // it writes to the socket, which may block past ctx
		err := k.broker.AsyncProduce(req, func(res *sarama.ProduceResponse, err error) { ch <- answer{res, err} })
		if err != nil {
			ch <- answer{nil, err}
		}
	}()
	var a answer
	select {
	case a = <-ch:
	case <-ctx.Done():
		for _, b := range q.batches {
			b.maybe = true
			b.giveUp(ctx.Err())
		}
		return
	}
	if a.err != nil {
		p.drop(k)
		p.mu.Lock()
		if p.closed {
			a.err = fmt.Errorf("producer: %w: %w", ErrClosed, a.err)
		}
		p.mu.Unlock()
		unsent := errors.Is(a.err, sarama.ErrNotConnected)
		var encoding sarama.PacketEncodingError
		fatal := errors.As(a.err, &encoding) || errors.Is(a.err, sarama.ErrUnsupportedVersion)
		for _, b := range q.batches {
			p.client.forget(b.lane.topicPartition)
			switch {
			case fatal:
				b.refused(a.err)
			case unsent:
				b.notSent(a.err)
			default:
				b.unknown(fmt.Errorf("produce to %s: %w", q.addr, a.err))
			}
		}
		return
	}
	for _, b := range q.batches {
		block := a.res.GetBlock(b.lane.topic, b.lane.partition)
		if block == nil {
			b.unknown(fmt.Errorf("produce to %s: %w", q.addr, sarama.ErrIncompleteResponse))
			continue
		}
		p.judge(b, block)
	}
}

// judge draws the conclusion from the broker's answer for one batch.
func (p *Producer) judge(b *batch, block *sarama.ProduceResponseBlock) {
	var err error = block.Err
	if block.ErrorMessage != nil && *block.ErrorMessage != "" {
		err = fmt.Errorf("%w: %s", block.Err, *block.ErrorMessage)
	}
	switch block.Err {
	case sarama.ErrNoError:
		if block.Offset < 0 {
			b.maybe = true
			b.cause = errors.New("the broker gave no offset")
			b.lookUp = true
			return
		}
		b.succeed(block.Offset)

	case sarama.ErrNotEnoughReplicas:
		// Checked before the append, so surely not written by this attempt.
		b.notSent(err)

	case sarama.ErrNotLeaderForPartition, sarama.ErrLeaderNotAvailable, sarama.ErrReplicaNotAvailable,
		sarama.ErrUnknownTopicOrPartition, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch:
		// A leader that loses its place while it waits for its replicas says the same,
		// and the new leader may well have the batch.
		p.client.forget(b.lane.topicPartition)
		b.unknown(err)

	case sarama.ErrRequestTimedOut, sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrNetworkException,
		sarama.ErrKafkaStorageError, sarama.ErrUnknown, sarama.ErrBrokerNotAvailable, sarama.ErrThrottlingQuotaExceeded:
		if block.Err == sarama.ErrKafkaStorageError {
			p.client.forget(b.lane.topicPartition)
		}
		b.unknown(err)

	case sarama.ErrDuplicateSequenceNumber, sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID,
		sarama.ErrInvalidProducerEpoch, sarama.ErrProducerFenced, sarama.ErrInvalidProducerIDMapping:
		b.cause = err
		if b.maybe {
			// An attempt before this one may be in the log: only the log knows.
			b.lookUp = true
			return
		}
		// The broker's state and ours differ, and no attempt was taken: start afresh.
		b.prepared, b.lane.stale = false, true

	default: // too large, corrupt, not authorized, invalid
		b.refused(err)
	}
}

// notSent: this attempt did not reach the log; earlier ones may have.
func (b *batch) notSent(err error) {
	b.cause = err
	if errors.Is(err, ErrClosed) {
		b.fail(err)
	}
}

// unknown: this attempt may be in the log. The next has the same sequence.
func (b *batch) unknown(err error) {
	b.maybe = true
	b.cause = err
	if errors.Is(err, ErrClosed) {
		b.fail(err)
	}
}

// refused: the broker will never take it; earlier attempts may be in the log.
func (b *batch) refused(err error) {
	if b.maybe {
		b.cause, b.lookUp = err, true
		return
	}
	b.fail(err)
}
