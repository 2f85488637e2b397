// Package embedded runs a Kafka-protocol broker and a Redis inside this process, for `exesdb up` and for tests.
// Services reach both over real sockets and cannot tell them from the real ones, within the limits below.
//
// # What the broker does with its directory
//
// The broker is franz-go's kfake. Read off its source, and held by the tests of this package:
//
//   - A produce is answered after one write(2) into the partition's segment, without fsync; a segment is not synced
//     when it is rolled either. A killed process therefore loses nothing that was answered; a power cut may
//     lose the tail. What must survive a power cut is the fsynced store, not this log.
//   - A start after Close and one after a kill both read every segment whole and decode every batch, at about
//     twice the log's size in memory for a moment. Only retention bounds that. After a kill a torn last batch is cut off.
//   - Committed group offsets and topics are written as they change. Producer sequences are saved by Close only, so a
//     producer that outlives a killed broker is not protected against its own retries; ours live in the same process.
//   - A topic's retention.bytes and retention.ms are honoured per partition and drop whole batches; a segment file
//     goes when its last batch has gone, so what is loaded is at most retention.bytes plus one segment
//     (log.segment.bytes, 16 MiB here), for each partition. The records that were dropped from a segment that is still
//     there are visible again after a kill, until the next sweep.
//   - A topic's max.message.bytes is honoured, and message.max.bytes of the broker where a topic sets none. It bounds
//     a whole batch as sent (compressed), as in Kafka.
//   - message.timestamp.type is stored and shown but not obeyed: a record keeps the time its producer gave it.
//   - Compaction leaves the last batch alone and does not look into it, so the newest two records of a key may both be
//     found. Readers take the last one anyway.
//   - Transactions, offsets and groups work; nothing is replicated; one goroutine serves all requests.
//
// # What kfake gets wrong for a store, and what is done about it here
//
//   - A partition whose last batch was dropped by retention starts again at offset 0 after any restart, clean or
//     not. Our cursors are offsets, so this would make new writes look old. The end of each partition is therefore
//     written down (end_offsets.json) before anything is dropped, and an emptied partition is given an empty batch in its
//     last place before it is opened, which is dropped again once it is open. See offsets.go.
//   - Compaction deletes a partition's files and then writes them anew, so a kill in between loses every key of it.
//     Here the files are hard-linked aside first, and put back at the next start if the rewriting was cut short. See
//     compaction.go.
//   - Its own cleaner rewrites every compacted topic at each tick, changed or not, and is not started for topics
//     that were loaded from disk. It is switched off; the sweep in sweep.go takes its place.
//   - A compacted topic is subject to the default retention.ms of a week, unlike in Kafka. The default is none here.
//   - There is no lock on the directory; two brokers in it would interleave their writes. There is one here.
//
// # Redis
//
// Redis is miniredis: its keys expire only when told that time has passed, which a ticker does with the time
// that really has. Nothing of it survives the process; the log does not need it to.
package embedded
