package storage

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// Shard is the database of one shard. One goroutine writes; any number read.
// It is a core.View of what is committed.
type Shard struct {
	id   int32
	dir  string
	opts Options
	db   *pebble.DB
	// pageKeys is how many keys one page may look at.
	pageKeys int

	mu   sync.Mutex
	meta meta // as committed
}

// Shard opens or makes the database of shard n.
func (s *Store) Shard(n int32) (*Shard, error) {
	dir := s.opts.FS.PathJoin(s.dir, fmt.Sprintf("shard-%d", n))
	if !s.opts.ReadOnly {
		if err := makeDir(s.opts.FS, dir); err != nil {
			return nil, fmt.Errorf("open shard %d: make directory: %w", n, err)
		}
	}
	db, err := pebble.Open(dir, s.pebbleOptions())
	if err != nil {
		return nil, fmt.Errorf("open shard %d in %s: %w", n, dir, err)
	}
	sh := &Shard{id: n, dir: dir, opts: s.opts, db: db, pageKeys: maxPageKeys, meta: meta{State: core.Initial()}}
	if sh.meta, err = loadMeta(db); err != nil {
		return nil, errors.Join(fmt.Errorf("open shard %d in %s: %w", n, dir, err), db.Close())
	}
	return sh, nil
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                          s.opts.FS,
		Cache:                       s.cache,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		MemTableSize:                s.opts.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               256 << 20,
		BytesPerSync:                1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		MaxOpenFiles:                512,
		ErrorIfNotExists:            s.opts.ReadOnly,
		ReadOnly:                    s.opts.ReadOnly,
		Logger:                      quiet{log: s.opts.Log},
		EventListener:               &pebble.EventListener{},
	}
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled: true, MinimumSize: 256, MaxBlobReferenceDepth: 10,
			RewriteMinimumAge: 15 * time.Minute, TargetGarbageRatio: 0.5,
		}
	}
	o.Experimental.SpanPolicyFunc = storagePolicy
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 16 << 10
	}
	return o
}

// storagePolicy keeps raw records in place: they leave soon, and would leave holes
// in the files of the event bodies, which compactions do not rewrite.
func storagePolicy(start []byte) (pebble.SpanPolicy, []byte, error) {
	switch {
	case len(start) == 0 || start[0] < prefixRaw:
		return pebble.SpanPolicy{}, []byte{prefixRaw}, nil
	case start[0] == prefixRaw:
		return pebble.SpanPolicy{ValueStoragePolicy: pebble.ValueStorageLowReadLatency}, []byte{prefixRaw + 1}, nil
	default:
		return pebble.SpanPolicy{}, nil, nil
	}
}

// Close flushes nothing and loses nothing: all commits are synced.
func (s *Shard) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close shard %d: %w", s.id, err)
	}
	return nil
}

// ID of the shard: the partition of the log.
func (s *Shard) ID() int32 { return s.id }

// State as of the newest commit.
func (s *Shard) State() core.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta.State
}

// Head implements core.View.
func (s *Shard) Head(stream string) (core.Head, bool, error) {
	var h core.Head
	found, err := get(s.db, nameKey(nil, prefixHead, stream), func(v []byte) (err error) {
		h, err = readHead(v)
		return err
	})
	if err != nil {
		return h, false, fmt.Errorf("read head of stream %q: %w", stream, err)
	}
	return h, found, nil
}

// Write implements core.View.
func (s *Shard) Write(writeID string) (core.Write, bool, error) {
	var w core.Write
	found, err := get(s.db, nameKey(nil, prefixWrite, writeID), func(v []byte) (err error) {
		w, err = readWrite(v)
		return err
	})
	if err != nil {
		return w, false, fmt.Errorf("read write %q: %w", writeID, err)
	}
	return w, found, nil
}

// Event implements core.View.
func (s *Shard) Event(eventID string) (core.Place, bool, error) {
	var p core.Place
	found, err := get(s.db, nameKey(nil, prefixEvent, eventID), func(v []byte) (err error) {
		p, err = readPlace(v)
		return err
	})
	if err != nil {
		return p, false, fmt.Errorf("read place of event %q: %w", eventID, err)
	}
	return p, found, nil
}

// Outcome implements core.View.
func (s *Shard) Outcome(offset int64) (*eventsv1.Outcome, bool, error) {
	o := new(eventsv1.Outcome)
	found, err := get(s.db, offsetKey(nil, prefixOutcome, offset), func(v []byte) error {
		return proto.Unmarshal(v, o)
	})
	if err != nil {
		return nil, false, fmt.Errorf("read outcome at log offset %d: %w", offset, err)
	}
	return o, found, nil
}

// Outcomes gives the outcomes from an offset on, in log order, until fn returns
// false or there are no more.
func (s *Shard) Outcomes(from int64, fn func(*eventsv1.Outcome) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: offsetKey(nil, prefixOutcome, max(from, 0)),
		UpperBound: []byte{prefixOutcome + 1},
	})
	if err != nil {
		return fmt.Errorf("read outcomes of shard %d: %w", s.id, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		o := new(eventsv1.Outcome)
		if err := proto.Unmarshal(it.Value(), o); err != nil {
			_ = it.Close()
			return fmt.Errorf("decode outcome of shard %d: %w", s.id, err)
		}
		if !fn(o) {
			break
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read outcomes of shard %d: %w", s.id, err)
	}
	return nil
}

func loadMeta(r pebble.Reader) (meta, error) {
	m := meta{State: core.Initial()}
	_, err := get(r, []byte{prefixMeta}, func(v []byte) (err error) {
		m, err = readMeta(v)
		return err
	})
	if err != nil {
		return meta{}, fmt.Errorf("read meta: %w", err)
	}
	return m, nil
}

// get reads one key and lets decode look at the value, which it must not keep.
func get(r pebble.Reader, key []byte, decode func([]byte) error) (bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(decode(v), closer.Close())
}
