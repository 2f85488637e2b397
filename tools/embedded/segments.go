package embedded

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// brokerTopic is a topic as kfake writes it down in topics.json, at each change.
type brokerTopic struct {
	Name       string            `json:"name"`
	ID         json.RawMessage   `json:"id"`
	Partitions int               `json:"partitions"`
	Configs    map[string]string `json:"configs"`
}

func (t brokerTopic) compacted() bool {
	return strings.Contains(t.Configs["cleanup.policy"], "compact")
}

func readTopics(dir string) ([]brokerTopic, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "topics.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var file struct {
		Topics []brokerTopic `json:"topics"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("read topics.json: %w", err)
	}
	return file.Topics, nil
}

// partitionDir is where kfake keeps the segments of a partition.
func partitionDir(dir, topic string, partition int) string {
	return filepath.Join(dir, "partitions", fmt.Sprintf("%s-%d", url.PathEscape(topic), partition))
}

func segmentPath(partition string, base int64) string {
	return filepath.Join(partition, strconv.FormatInt(base, 10)+".dat")
}

func indexPath(partition string, base int64) string {
	return filepath.Join(partition, strconv.FormatInt(base, 10)+".idx")
}

// segmentBases lists the segments of a partition by their first offset, in order.
func segmentBases(partition string) ([]int64, error) {
	entries, err := os.ReadDir(partition)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, e := range entries {
		name, isSegment := strings.CutSuffix(e.Name(), ".dat")
		if base, err := strconv.ParseInt(name, 10, 64); isSegment && err == nil {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

// endOffset is the offset after the last whole batch of a partition's files, 0 if there is none.
func endOffset(partition string) (int64, error) {
	bases, err := segmentBases(partition)
	if err != nil {
		return 0, err
	}
	for _, base := range slices.Backward(bases) {
		end, err := segmentEnd(segmentPath(partition, base))
		if err != nil || end > 0 {
			return end, err
		}
	}
	return 0, nil
}

// Places in a record batch of Kafka's format: its offset, its length after the first 12 bytes, and the offset of its
// last record from its first.
const (
	batchLengthAt     = 8
	batchLengthFrom   = 12
	batchLastOffsetAt = 23
	batchHeader       = 61
)

func segmentEnd(path string) (int64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var end int64
	for len(raw) >= batchHeader {
		size := batchLengthFrom + int(binary.BigEndian.Uint32(raw[batchLengthAt:]))
		if size < batchHeader || size > len(raw) {
			break
		}
		end = int64(binary.BigEndian.Uint64(raw)) + int64(binary.BigEndian.Uint32(raw[batchLastOffsetAt:])) + 1
		raw = raw[size:]
	}
	return end, nil
}
