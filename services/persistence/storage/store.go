// Package storage keeps what the apply core decided: one Pebble database per
// shard, in which one batch holds events, indexes, outcomes and the log offset
// that they came from, committed with one fsync. A crash at any point repeats
// nothing and loses nothing.
package storage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a store; the zero value is usable.
type Options struct {
	// FS is where the files are; nil is the operating system's.
	FS vfs.FS
	// CacheBytes of all shards together; 0 is 128 MiB.
	CacheBytes int64
	// MemTableBytes of each shard; 0 is 32 MiB.
	MemTableBytes uint64
	// MinFreeBytes is the free space below which commits are refused; 0 is 256 MiB
	// or 2 % of the disk, whichever is smaller.
	MinFreeBytes uint64
	// ReadOnly opens an existing store without changing anything.
	ReadOnly bool
	// Log gets Pebble's errors at debug level; nil is nowhere.
	Log *slog.Logger
}

const (
	defaultCacheBytes    = 128 << 20
	defaultMemTableBytes = 32 << 20
	identityFile         = "STORE-UUID"
)

// Store is a directory with one database per shard.
type Store struct {
	dir   string
	uuid  string
	opts  Options
	cache *pebble.Cache
}

// Open opens or makes the store in dir. A store that is new has a new UUID: that
// is how a wiped replica is known. Close it after its shards.
func Open(dir string, opts Options) (*Store, error) {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.CacheBytes == 0 {
		opts.CacheBytes = defaultCacheBytes
	}
	if opts.MemTableBytes == 0 {
		opts.MemTableBytes = defaultMemTableBytes
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{dir: dir, opts: opts}
	var err error
	if s.uuid, err = s.identity(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s.cache = pebble.NewCache(opts.CacheBytes)
	return s, nil
}

// UUID of the store: 32 hexadecimal digits, made when the directory was.
func (s *Store) UUID() string { return s.uuid }

// Close releases the cache.
func (s *Store) Close() error {
	s.cache.Unref()
	return nil
}

func (s *Store) identity() (string, error) {
	fsys, path := s.opts.FS, s.opts.FS.PathJoin(s.dir, identityFile)
	f, err := fsys.Open(path)
	if err == nil {
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("read store UUID: %w", err)
		}
		uuid := strings.TrimSpace(string(b))
		if len(uuid) != 32 {
			return "", fmt.Errorf("read store UUID: %s holds %q, want 32 hexadecimal digits", path, uuid)
		}
		return uuid, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read store UUID: %w", err)
	}
	if s.opts.ReadOnly {
		return "", fmt.Errorf("there is no store: %w", err)
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	uuid := fmt.Sprintf("%x", b)
	if err := makeDir(fsys, s.dir); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	if err := writeDurably(fsys, s.dir, path, uuid+"\n"); err != nil {
		return "", fmt.Errorf("write store UUID: %w", err)
	}
	return uuid, nil
}

// makeDir makes a directory and those above it so that they survive a crash:
// the directory that holds a new one is synced.
func makeDir(fsys vfs.FS, dir string) error {
	var made []string
	for at := dir; ; at = fsys.PathDir(at) {
		_, err := fsys.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		made = append(made, at)
		if fsys.PathDir(at) == at || fsys.PathDir(at) == "." {
			break
		}
	}
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range made {
		if err := syncDir(fsys, fsys.PathDir(d)); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeDurably makes a file that is there whole or not at all.
func writeDurably(fsys vfs.FS, dir, path, content string) error {
	f, err := fsys.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(content))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}
