package bus

import (
	"time"

	"github.com/IBM/sarama"
)

// batch is one Kafka record batch on its way to one partition.
type batch struct {
	lane   *lane
	rb     *sarama.RecordBatch
	bytes  int // encoded size
	source []*Record

	// State of the call.
	prepared bool  // carries the identity and sequence it is sent under
	maybe    bool  // Invariant: false only while no attempt can have been written
	lookUp   bool  // the broker cannot tell: read the log instead of sending again
	looked   int   // completed look-ups that did not find it
	cause    error // of the last attempt
	done     bool
	base     int64 // when done without err
	err      error
}

// newBatch encodes nothing yet: it refers to the records' keys and values.
func newBatch(l *lane, source []*Record) *batch {
	n := len(source)
	headers, keyBytes := 0, 0
	for _, r := range source {
		headers += len(r.Headers)
		for i := range r.Headers {
			keyBytes += len(r.Headers[i].Key)
		}
	}
	var (
		slab    = make([]sarama.Record, n)
		records = make([]*sarama.Record, n)
		hslab   = make([]sarama.RecordHeader, 0, headers)
		hptrs   = make([]*sarama.RecordHeader, 0, headers)
		keys    = make([]byte, 0, keyBytes)
		now     = time.Now().Truncate(time.Millisecond)
		first   time.Time
		most    time.Time
		bytes   = batchHeaderBytes
	)
	for i, r := range source {
		at := now
		if !r.Timestamp.IsZero() {
			at = r.Timestamp.Truncate(time.Millisecond)
		}
		if i == 0 {
			first = at
		}
		if at.After(most) {
			most = at
		}
		delta := at.Sub(first)
		from := len(hptrs)
		for j := range r.Headers {
			k := len(keys)
			keys = append(keys, r.Headers[j].Key...)
			hslab = append(hslab, sarama.RecordHeader{Key: keys[k:], Value: r.Headers[j].Value})
			hptrs = append(hptrs, &hslab[len(hslab)-1])
		}
		slab[i] = sarama.Record{
			TimestampDelta: delta, OffsetDelta: int64(i),
			Key: r.Key, Value: r.Value, Headers: hptrs[from:len(hptrs):len(hptrs)],
		}
		records[i] = &slab[i]
		bytes += r.encodedBytes(int64(i), delta.Milliseconds())
	}
	return &batch{
		lane: l, bytes: bytes, source: source,
		rb: &sarama.RecordBatch{
			Version: 2, FirstTimestamp: first, MaxTimestamp: most,
			LastOffsetDelta: int32(n - 1), Records: records,
		},
	}
}
