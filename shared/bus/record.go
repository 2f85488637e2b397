package bus

import (
	"math/bits"
	"time"
)

// MaxMessageBytes is the largest record batch a topic of ours takes, in bytes
// (max.message.bytes of every topic made by [Client.EnsureTopics]).
const MaxMessageBytes = 8 << 20

// MaxBatchBytes is the largest encoded batch that [Producer.Append] sends, in bytes:
// MaxMessageBytes less a margin for what a broker may add.
const MaxBatchBytes = MaxMessageBytes - 1<<10

// batchHeaderBytes is the size of a v2 record batch without records.
const batchHeaderBytes = 61

// Header is one header of a record. Keys may repeat.
type Header struct {
	Key   string
	Value []byte
}

// Record is one Kafka record. A nil Value is a tombstone on a compacted topic.
type Record struct {
	Topic     string
	Partition int32
	// Offset is set on records that were read, and by [Producer.Send].
	Offset int64
	// Timestamp is the broker's append time on records that were read; of records
	// to be written, the zero value means now. Kafka keeps milliseconds.
	Timestamp time.Time
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Header returns the value of the first header with that key, "" if there is none.
func (r *Record) Header(key string) string {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// BatchBytes is the encoded size of one batch of these records, in bytes. Callers
// that split their writes compare it with [MaxBatchBytes].
func BatchBytes(records []Record) int {
	n := batchHeaderBytes
	first := int64(0)
	for i := range records {
		ms := records[i].Timestamp.UnixMilli()
		if records[i].Timestamp.IsZero() {
			ms = 0
		}
		if i == 0 {
			first = ms
		}
		n += records[i].encodedBytes(int64(i), ms-first)
	}
	return n
}

// encodedBytes is the size of the record at place index of its batch.
func (r *Record) encodedBytes(index, deltaMillis int64) int {
	n := 1 + varintBytes(deltaMillis) + varintBytes(index) + blobBytes(r.Key) + blobBytes(r.Value) + varintBytes(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintBytes(int64(len(h.Key))) + len(h.Key) + blobBytes(h.Value)
	}
	return n + varintBytes(int64(n))
}

func blobBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return varintBytes(int64(len(b))) + len(b)
}

// varintBytes is the length of v as a zigzag varint.
func varintBytes(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}
