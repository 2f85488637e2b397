package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// Digest hashes all keys and values that the log decides: two replicas that
// applied the same records have the same digest. Raw records are left out (a
// refilled log has other timestamps). It reads the whole shard.
func (s *Shard) Digest() (uint64, error) {
	hash := xxhash.New()
	for _, span := range [][2][]byte{{nil, {prefixRaw}}, {{prefixRaw + 1}, nil}} {
		if err := s.hash(hash, span[0], span[1]); err != nil {
			return 0, fmt.Errorf("digest shard %d: %w", s.id, err)
		}
	}
	return hash.Sum64(), nil
}

func (s *Shard) hash(hash *xxhash.Digest, lower, upper []byte) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	var size [8]byte
	add := func(b []byte) {
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		_, _ = hash.Write(size[:]) // never fails
		_, _ = hash.Write(b)
	}
	for ok := it.First(); ok; ok = it.Next() {
		add(it.Key())
		add(it.Value())
	}
	return it.Close()
}
