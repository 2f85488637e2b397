// Package bus is the product's only way to Kafka. Nothing else imports sarama or
// watermill-kafka, so what Kafka is asked for, and with which settings, is decided here.
//
// # Two lanes
//
// The data lane is a [Producer] and a [Reader] on sarama's low-level Broker. The
// control lane is Watermill on watermill-kafka ([NewControlPublisher],
// [NewControlSubscriber]). [Publisher] and [Subscriber] give Watermill's interfaces
// on the data lane's driver, so that a handler can change lanes.
//
// # Why not sarama's AsyncProducer and Consumer
//
// An AsyncProducer cuts batches where its buffers happen to be full, so a write of
// several records can be seen in part; here one [Producer.Append] is one Kafka record
// batch, which a broker takes whole or not at all, and its records are contiguous at
// the returned offset. And each record of the high-level types crosses several
// channels; here a drained batch is one slice.
//
// # Exactly one copy
//
// Batches carry (producer id, epoch, sequence) that we count ourselves, one call in
// flight per partition. A retry after an unknown outcome (a timeout, a connection that
// broke, a leader that moved while it waited for its replicas) repeats the same
// sequence, so the broker recognises it. When the broker cannot tell any more, the
// tail of the log is read, from the end that was known before the call, for a batch
// with our producer id, epoch and sequence. What cannot be settled even so ends in
// [ErrOutcomeUnknown], and the partition goes on under a new producer id.
//
// # Never past what was not seen
//
// A [Reader] has no consumer group: ownership is decided by leases and the log. It
// retries what may pass, and reports what will not: a place that retention removed
// ([OffsetGoneError]) and, on topics that have no holes, a hole ([OffsetGapError]).
package bus
