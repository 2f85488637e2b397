// Package shard says which shard a stream lives in. Every service asks this one
// function, so that a stream's requests, log, outcomes and answers meet in the
// same partition number of their topics.
package shard

import "strings"

// Of is the shard of a stream in a store with that many shards: the partition
// that Kafka's default partitioner (murmur2, as in the Java client and in kcat
// with `partitioner=murmur2_random`) gives to the key Tag(streamID). It is 0
// when shards is 1 or less.
func Of(streamID string, shards int32) int32 {
	if shards <= 1 {
		return 0
	}
	return int32(murmur2(Tag(streamID))&0x7fffffff) % shards
}

// Tag is the part of a stream id that is hashed, as in Redis Cluster: what
// stands between the first '{' and the first '}' after it, if that is not
// empty; else the whole id. Streams with the same tag share a shard.
func Tag(streamID string) string {
	open := strings.IndexByte(streamID, '{')
	if open < 0 {
		return streamID
	}
	tag, _, closed := strings.Cut(streamID[open+1:], "}")
	if !closed || tag == "" {
		return streamID
	}
	return tag
}

// murmur2 is the 32-bit hash of org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(s string) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(s))
	for len(s) >= 4 {
		k := uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
		s = s[4:]
	}
	switch len(s) {
	case 3:
		h ^= uint32(s[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(s[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(s[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
