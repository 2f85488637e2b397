package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A compaction goes through these states, each a rename apart, so that a kill at any point can be told from the
// directory alone:
//
//	links being made        compaction.new is there: nothing was rewritten yet, throw the links away
//	rewriting, or rewritten compaction is there: put back the partitions that were not rewritten to their end
//	done                    neither is there
//
// kfake removes all of a partition's segments, then writes the new ones, the last batch last; and compaction always keeps
// that batch. So a partition that still has a linked file was at most robbed of others, one that ends before its links
// was cut short while it was written, and any other was rewritten, and perhaps appended to since.
const (
	linksDir    = "compaction"
	newLinksDir = "compaction.new"
)

// compact rewrites the compacted topics so that a kill loses nothing. A record that starts a new segment between
// the linking and the rewriting is outside this guard; both take microseconds, once per compactFrom bytes.
func (b *Broker) compact(topics []brokerTopic) error {
	if err := linkCompacted(b.dir, topics); err != nil {
		return err
	}
	b.cluster.Compact()
	return os.RemoveAll(filepath.Join(b.dir, linksDir))
}

func linkCompacted(dir string, topics []brokerTopic) error {
	links := filepath.Join(dir, newLinksDir)
	if err := os.RemoveAll(links); err != nil {
		return err
	}
	if err := os.Mkdir(links, 0o755); err != nil {
		return err
	}
	for _, t := range topics {
		if !t.compacted() {
			continue
		}
		for p := range t.Partitions {
			from := partitionDir(dir, t.Name, p)
			if err := linkSegments(from, filepath.Join(links, filepath.Base(from))); err != nil {
				return fmt.Errorf("set %s/%d aside: %w", t.Name, p, err)
			}
		}
	}
	return os.Rename(links, filepath.Join(dir, linksDir))
}

// finishCompaction undoes what a kill has left half done. It may itself be killed and run again.
func finishCompaction(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, newLinksDir)); err != nil {
		return err
	}
	links := filepath.Join(dir, linksDir)
	entries, err := os.ReadDir(links)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := putBack(filepath.Join(links, e.Name()), filepath.Join(dir, "partitions", e.Name())); err != nil {
			return fmt.Errorf("put %s back: %w", e.Name(), err)
		}
	}
	return os.RemoveAll(links)
}

// putBack restores a partition unless it was rewritten to its end. It runs before the broker has the directory.
func putBack(links, partition string) error {
	if _, err := os.Stat(partition); errors.Is(err, fs.ErrNotExist) {
		return nil // the topic was deleted since
	}
	untouched, err := shareSegment(links, partition)
	if err != nil {
		return err
	}
	if !untouched {
		want, err := endOffset(links)
		if err != nil {
			return err
		}
		have, err := endOffset(partition)
		if err != nil || have >= want {
			return err
		}
		if err := removeSegments(partition); err != nil {
			return err
		}
	}
	return linkSegments(links, partition)
}

// shareSegment tells whether a segment is still the very file that was linked: kfake removes all of a partition's
// segments before it writes the first anew.
func shareSegment(links, partition string) (bool, error) {
	bases, err := segmentBases(links)
	if err != nil {
		return false, err
	}
	for _, base := range bases {
		linked, err := os.Stat(segmentPath(links, base))
		if err != nil {
			return false, err
		}
		live, err := os.Stat(segmentPath(partition, base))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || os.SameFile(linked, live) {
			return true, err
		}
	}
	return false, nil
}

// linkSegments gives the segments of one directory a second name in another. A hard link costs nothing and
// follows what is appended after it.
func linkSegments(from, to string) error {
	bases, err := segmentBases(from)
	if err != nil || len(bases) == 0 {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, base := range bases {
		for _, path := range []func(string, int64) string{indexPath, segmentPath} {
			if err := os.Remove(path(to, base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := os.Link(path(from, base), path(to, base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
