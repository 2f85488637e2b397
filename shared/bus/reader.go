package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// mostFetchBytes bounds one answer; a batch is never larger than MaxMessageBytes.
const mostFetchBytes = 64 << 20

// emptyAnswers is how often an offset below the end must bring nothing before it is
// taken for what compaction left of a batch.
const emptyAnswers = 3

// OffsetGoneError says that the offset asked for is not in the partition: removed by
// retention (below Oldest), or past its end (above Next: the log was cut). The reader
// never skips by itself; SeekTo says where to go on.
type OffsetGoneError struct {
	Topic               string
	Partition           int32
	Asked, Oldest, Next int64
}

func (e *OffsetGoneError) Error() string {
	return fmt.Sprintf("offset %d of topic %s partition %d is gone: the log has %d to %d", e.Asked, e.Topic, e.Partition, e.Oldest, e.Next)
}

// OffsetGapError says that a log without holes has one.
type OffsetGapError struct {
	Topic       string
	Partition   int32
	Asked, Next int64 // the offset that is missing and the one that came
}

func (e *OffsetGapError) Error() string {
	return fmt.Sprintf("topic %s partition %d goes on at offset %d, want %d: records of the log are missing", e.Topic, e.Partition, e.Next, e.Asked)
}

// ReaderOptions say what to read. Topic is required; the rest has good defaults.
type ReaderOptions struct {
	Topic     string
	Partition int32
	// Offset of the first record, or OffsetOldest or OffsetNewest, which are resolved
	// at the first Poll.
	Offset int64
	// MaxBytes of one fetch. A batch larger than that still comes, whole. Default: 4 MiB.
	MaxBytes int32
	// MaxWait is how long a broker holds a fetch that has nothing. Default: 500 ms.
	MaxWait time.Duration
	// MinBytes that end that wait. Default: 1.
	MinBytes int32
	// Prefetch runs the next fetch while the caller handles a batch, one ahead.
	Prefetch bool
	// Dense says that the topic has no holes (it is not compacted): then each is an
	// *OffsetGapError.
	Dense bool
}

// Validate reports everything that is wrong.
func (o ReaderOptions) Validate() error {
	var errs []error
	if o.Topic == "" {
		errs = append(errs, errors.New("reader: want a topic"))
	}
	if o.Partition < 0 {
		errs = append(errs, fmt.Errorf("reader of topic %s: partition %d: want 0 or more", o.Topic, o.Partition))
	}
	if o.Offset < OffsetOldest {
		errs = append(errs, fmt.Errorf("reader of topic %s: offset %d: want 0 or more, OffsetOldest or OffsetNewest", o.Topic, o.Offset))
	}
	if o.MaxBytes < 0 || o.MinBytes < 0 || o.MaxWait < 0 {
		errs = append(errs, fmt.Errorf("reader of topic %s: negative MaxBytes, MinBytes or MaxWait", o.Topic))
	}
	return errors.Join(errs...)
}

// Reader reads one partition from an explicit offset, over a connection of its own
// and without a consumer group. Poll and SeekTo belong to one goroutine;
// Next, HighWatermark and Close may be called from any.
type Reader struct {
	client *Client
	opts   ReaderOptions
	tp     topicPartition

	next atomic.Int64 // of what Poll has returned
	end  atomic.Int64 // -1 before the first fetch

	life context.Context // of the reader
	stop context.CancelFunc

	pending *pendingFetch
	conn    *conn       // used by one fetch at a time
	unhook  func() bool // of conn from the reader's life

	closing sync.Once
}

// pendingFetch is a fetch that runs. It outlives a Poll whose ctx ends, so that the
// next Poll finds its result and no connection is lost.
type pendingFetch struct {
	cancel context.CancelFunc
	result chan haul
}

// haul is what one fetch brought.
type haul struct {
	records []Record
	next    int64
	err     error
}

// NewReader makes a reader; it connects at the first Poll.
func NewReader(client *Client, opts ReaderOptions) (*Reader, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 4 << 20
	}
	if opts.MaxWait == 0 {
		opts.MaxWait = 500 * time.Millisecond
	}
	// An answer that is held longer than we wait for it would look like a dead broker.
	opts.MaxWait = min(opts.MaxWait, client.cfg.RequestTimeout)
	if opts.MinBytes == 0 {
		opts.MinBytes = 1
	}
	r := &Reader{client: client, opts: opts, tp: topicPartition{opts.Topic, opts.Partition}}
	r.life, r.stop = context.WithCancel(context.Background())
	r.next.Store(opts.Offset)
	r.end.Store(-1)
	return r, nil
}

// Next is the offset that the next Poll begins with: one past the last record that
// was returned (or past what is there instead of a record), or the offset asked for.
// It is OffsetOldest or OffsetNewest until a fetch has resolved these.
func (r *Reader) Next() int64 { return r.next.Load() }

// HighWatermark is the partition's end as the last fetch saw it; -1 before. The reader has caught up when Next reaches it.
func (r *Reader) HighWatermark() int64 { return r.end.Load() }

// SeekTo goes on at that offset, or OffsetOldest or OffsetNewest, and drops what was
// fetched ahead.
func (r *Reader) SeekTo(offset int64) {
	r.abandon()
	r.next.Store(offset)
}

// Close ends the reader and its connection. A Poll that waits returns [ErrClosed].
func (r *Reader) Close() error {
	r.closing.Do(r.stop)
	return nil
}

// abandon ends the fetch that runs, if any, and waits for it: it is prompt.
func (r *Reader) abandon() {
	if r.pending != nil {
		r.pending.cancel()
		<-r.pending.result
		r.pending = nil
	}
}

// Poll returns everything that one fetch brings, at least one record. It blocks
// until there is one or ctx is done, and retries what may pass (a leader that moves,
// a connection that breaks, a timeout). What it returns as an error stays so until
// SeekTo: *[OffsetGoneError], *[OffsetGapError], ctx's error, [ErrClosed], or that of
// a topic that may not be read.
//
// Keys, values and header values share the fetch's buffer: copy what is to be kept
// much longer than its neighbours.
func (r *Reader) Poll(ctx context.Context) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, r.wrap(err)
	}
	if r.life.Err() != nil {
		r.abandon()
		return nil, r.wrap(ErrClosed)
	}
	if r.pending == nil {
		r.start()
	}
	var h haul
	select {
	case h = <-r.pending.result:
	case <-ctx.Done():
		return nil, r.wrap(ctx.Err())
	}
	r.pending.cancel()
	r.pending = nil
	if h.err != nil {
		if r.life.Err() != nil {
			h.err = ErrClosed
		}
		return nil, r.wrap(h.err)
	}
	r.next.Store(h.next)
	if r.opts.Prefetch {
		r.start()
	}
	return h.records, nil
}

func (r *Reader) wrap(err error) error {
	return fmt.Errorf("read topic %s partition %d at offset %d: %w", r.tp.topic, r.tp.partition, r.next.Load(), err)
}

func (r *Reader) start() {
	ctx, cancel := context.WithCancel(r.life)
	p := &pendingFetch{cancel: cancel, result: make(chan haul, 1)}
	r.pending = p
	from := r.next.Load()
	go func() {
		h := r.fetch(ctx, from)
		if ctx.Err() != nil {
			r.disconnect()
		}
		p.result <- h
	}()
}

// fetch goes on until it has something to return.
func (r *Reader) fetch(ctx context.Context, from int64) haul {
	var (
		pause   backoff
		size    = fetchSize{wait: r.opts.MaxWait, least: r.opts.MinBytes, most: r.opts.MaxBytes}
		outside int // answers that the offset is out of range
		empty   int // answers without anything, below the end
		garbled int // answers that could not be decoded
		at      = from
	)
	for {
		if ctx.Err() != nil {
			return haul{err: ctx.Err()}
		}
		h, f, err := r.once(ctx, at, size)
		switch {
		case err == nil && f == nil: // an end was resolved
			at = h.next
			r.next.Store(at)
			pause.reset()
			continue
		case err == nil:
			pause.reset()
			if len(h.records) > 0 {
				return h
			}
			switch {
			case h.next > at: // control batches and the like
				at, empty = h.next, 0
				r.next.Store(at)
			case f.partial:
				if size.most >= mostFetchBytes {
					return haul{err: fmt.Errorf("a batch larger than %d bytes", mostFetchBytes)}
				}
				size.most = min(2*size.most, mostFetchBytes)
			case at < f.stable && !f.throttled && !r.opts.Dense:
				// Compaction leaves a batch without records, which sarama does not show.
				if empty++; empty >= emptyAnswers {
					at, empty = at+1, 0
					r.next.Store(at)
				}
			}
			continue
		}
		var gone *OffsetGoneError
		var gap *OffsetGapError
		var decoding sarama.PacketDecodingError
		switch {
		case ctx.Err() != nil:
			return haul{err: ctx.Err()}
		case errors.As(err, &gap):
			return haul{err: err}
		case errors.As(err, &gone):
			// Asked once more of the leader as it is now: an old one may not know better.
			if outside++; outside > 1 {
				return haul{err: err}
			}
		case errors.As(err, &decoding):
			// Once is a broken connection; again and again is a broken log.
			if garbled++; garbled >= emptyAnswers {
				return haul{err: err}
			}
		case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrUnsupportedVersion):
			return haul{err: err}
		}
		r.client.forget(r.tp)
		r.client.cfg.retrying(fmt.Sprintf("read topic %s partition %d at offset %d", r.tp.topic, r.tp.partition, at), err)
		pause.wait(ctx, time.Time{})
	}
}

// once makes one request. Without an error and without an answer, it has only
// resolved OffsetOldest or OffsetNewest.
func (r *Reader) once(ctx context.Context, at int64, size fetchSize) (haul, *fetched, error) {
	if at < 0 {
		oldest, end, err := r.client.Watermark(ctx, r.tp.topic, r.tp.partition)
		if err != nil {
			return haul{}, nil, err
		}
		if at == OffsetOldest {
			return haul{next: oldest}, nil, nil
		}
		return haul{next: end}, nil, nil
	}
	addr, err := r.client.leader(ctx, r.tp)
	if err != nil {
		return haul{}, nil, err
	}
	if r.conn != nil && r.conn.addr != addr {
		r.disconnect()
	}
	if r.conn == nil {
		r.conn = r.client.open(addr)
		r.unhook = context.AfterFunc(r.life, r.conn.kill)
	}
	k := r.conn
	defer context.AfterFunc(ctx, k.kill)() // closes the socket under a held fetch
	if err := k.await(ctx); err != nil {
		r.disconnect()
		return haul{}, nil, err
	}
	f, err := fetch(k, r.tp, at, size)
	if err != nil {
		var of sarama.KError
		if !errors.As(err, &of) {
			r.disconnect()
		}
		if errors.Is(err, sarama.ErrOffsetOutOfRange) {
			return haul{}, nil, r.outOfRange(ctx, at, err)
		}
		return haul{}, nil, err
	}
	if f.end >= 0 {
		r.end.Store(f.end)
	}
	h, err := r.unpack(at, f)
	return h, f, err
}

// disconnect drops the connection; the next request makes another.
func (r *Reader) disconnect() {
	if r.conn != nil {
		r.unhook()
		r.conn.kill()
		r.conn = nil
	}
}

// outOfRange tells an offset that is gone from a leader that does not know it yet.
func (r *Reader) outOfRange(ctx context.Context, at int64, cause error) error {
	r.client.forget(r.tp)
	oldest, end, err := r.client.Watermark(ctx, r.tp.topic, r.tp.partition)
	if err != nil {
		return err
	}
	if at >= oldest && at <= end {
		return cause
	}
	return &OffsetGoneError{Topic: r.tp.topic, Partition: r.tp.partition, Asked: at, Oldest: oldest, Next: end}
}

// unpack makes records of an answer: what is below the offset asked for, control
// batches and aborted transactions are left out.
func (r *Reader) unpack(at int64, f *fetched) (haul, error) {
	h := haul{next: at}
	n := 0
	for _, rb := range f.batches {
		if !rb.Control {
			n += len(rb.Records)
		}
	}
	if n > 0 {
		h.records = make([]Record, 0, n)
	}
	var aborted map[int64]bool // producers inside a transaction that was aborted
	if len(f.aborted) > 0 {
		slices.SortFunc(f.aborted, func(a, b *sarama.AbortedTransaction) int { return int(a.FirstOffset - b.FirstOffset) })
		aborted = map[int64]bool{}
	}
	for _, rb := range f.batches {
		if rb.LastOffset() < h.next {
			continue
		}
		if rb.FirstOffset > h.next {
			if f.oldest > h.next {
				return r.upTo(h, &OffsetGoneError{Topic: r.tp.topic, Partition: r.tp.partition, Asked: h.next, Oldest: f.oldest, Next: f.end})
			}
			if r.opts.Dense {
				return r.upTo(h, &OffsetGapError{Topic: r.tp.topic, Partition: r.tp.partition, Asked: h.next, Next: rb.FirstOffset})
			}
		}
		for len(f.aborted) > 0 && f.aborted[0].FirstOffset <= rb.LastOffset() {
			aborted[f.aborted[0].ProducerID] = true
			f.aborted = f.aborted[1:]
		}
		if rb.Control {
			// The marker that ends the transaction. An aborted producer's next one is listed again.
			delete(aborted, rb.ProducerID)
			h.next = rb.LastOffset() + 1
			continue
		}
		if rb.IsTransactional && aborted[rb.ProducerID] {
			h.next = rb.LastOffset() + 1
			continue
		}
		want := max(h.next, rb.FirstOffset)
		for _, rec := range rb.Records {
			offset := rb.FirstOffset + rec.OffsetDelta
			if offset < h.next {
				continue
			}
			if r.opts.Dense && offset != want {
				return r.upTo(h, &OffsetGapError{Topic: r.tp.topic, Partition: r.tp.partition, Asked: want, Next: offset})
			}
			want = offset + 1
			at := rb.FirstTimestamp.Add(rec.TimestampDelta)
			if rb.LogAppendTime {
				at = rb.MaxTimestamp
			}
			out := Record{Topic: r.tp.topic, Partition: r.tp.partition, Offset: offset, Timestamp: at, Key: rec.Key, Value: rec.Value}
			if len(rec.Headers) > 0 {
				out.Headers = make([]Header, len(rec.Headers))
				for i, hd := range rec.Headers {
					out.Headers[i] = Header{Key: headerKey(hd.Key), Value: hd.Value}
				}
			}
			h.records = append(h.records, out)
			h.next = offset + 1
		}
		if r.opts.Dense && want != rb.LastOffset()+1 {
			return r.upTo(h, &OffsetGapError{Topic: r.tp.topic, Partition: r.tp.partition, Asked: want, Next: rb.LastOffset() + 1})
		}
		h.next = rb.LastOffset() + 1
	}
	if len(f.batches) == 0 && f.oldest > at {
		return h, &OffsetGoneError{Topic: r.tp.topic, Partition: r.tp.partition, Asked: at, Oldest: f.oldest, Next: f.end}
	}
	return h, nil
}

// upTo returns what was read before err if there is something; err then meets the
// next fetch, which begins there.
func (r *Reader) upTo(h haul, err error) (haul, error) {
	if len(h.records) > 0 {
		return h, nil
	}
	return h, err
}
