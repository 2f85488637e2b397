package bus

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// fetchSize says how long to wait for how many bytes.
type fetchSize struct {
	wait        time.Duration
	least, most int32
}

// fetched is the answer for one partition.
type fetched struct {
	batches   []*sarama.RecordBatch
	aborted   []*sarama.AbortedTransaction
	partial   bool // the first batch did not fit into what was asked for
	throttled bool
	end       int64 // high watermark
	stable    int64 // last stable offset
	oldest    int64 // log start offset
}

// fetch makes one request on a connection that is ready. Errors of the partition are
// sarama's KErrors; others are the connection's.
func fetch(k *conn, tp topicPartition, offset int64, size fetchSize) (*fetched, error) {
	req := &sarama.FetchRequest{
		Version: 12, MinBytes: size.least, MaxBytes: size.most,
		MaxWaitTime: int32(size.wait / time.Millisecond),
		Isolation:   sarama.ReadCommitted,
		// No fetch session: one partition has nothing to save by it.
		SessionID: 0, SessionEpoch: -1,
	}
	req.AddBlock(tp.topic, tp.partition, offset, size.most, -1)
	res, err := k.broker.Fetch(req)
	if err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", k.addr, err)
	}
	if e := sarama.KError(res.ErrorCode); e != sarama.ErrNoError {
		return nil, fmt.Errorf("fetch from %s: %w", k.addr, e)
	}
	block := res.GetBlock(tp.topic, tp.partition)
	if block == nil {
		if res.ThrottleTime > 0 {
			return &fetched{throttled: true, end: -1, stable: -1, oldest: -1}, nil
		}
		return nil, fmt.Errorf("fetch from %s: %w", k.addr, sarama.ErrIncompleteResponse)
	}
	if block.Err != sarama.ErrNoError {
		return nil, fmt.Errorf("fetch from %s: %w", k.addr, block.Err)
	}
	f := &fetched{
		aborted: block.AbortedTransactions, partial: block.Partial, throttled: res.ThrottleTime > 0,
		end: block.HighWaterMarkOffset, stable: block.LastStableOffset, oldest: block.LogStartOffset,
	}
	for _, r := range block.RecordsSet {
		if r.RecordBatch == nil {
			return nil, errors.New("a message set of Kafka before 0.11: not supported")
		}
		if r.RecordBatch.PartialTrailingRecord {
			f.partial = true
			continue
		}
		f.batches = append(f.batches, r.RecordBatch)
	}
	return f, nil
}
