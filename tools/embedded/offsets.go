package embedded

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// endOffsets is where each partition's log ended when it was last swept. The topic's id tells a topic from a later
// one of the same name.
type endOffsets map[string]topicEnds

type topicEnds struct {
	ID   string  `json:"id"`
	Ends []int64 `json:"ends"`
}

const endOffsetsFile = "end_offsets.json"

func readEndOffsets(dir string) (endOffsets, error) {
	raw, err := os.ReadFile(filepath.Join(dir, endOffsetsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ends endOffsets
	if err := json.Unmarshal(raw, &ends); err != nil {
		return nil, fmt.Errorf("read %s: %w", endOffsetsFile, err)
	}
	return ends, nil
}

// write replaces the file, so that a kill leaves the old one or the new one.
func (e endOffsets) write(dir string) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, endOffsetsFile)
	if err := writeSynced(path+".new", raw); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// plantEnds puts an empty batch in the last place of every partition that retention has emptied, so that its next
// record follows the ones that were there. Kafka's own compaction leaves such batches, so clients know them.
// dropPlanted takes them away when they have served.
func plantEnds(dir string) error {
	ends, err := readEndOffsets(dir)
	if err != nil || len(ends) == 0 {
		return err
	}
	topics, err := readTopics(dir)
	if err != nil {
		return err
	}
	for _, t := range topics {
		known := ends[t.Name]
		if known.ID != string(t.ID) {
			continue
		}
		for p, want := range known.Ends[:min(len(known.Ends), t.Partitions)] {
			pdir := partitionDir(dir, t.Name, p)
			have, err := endOffset(pdir)
			if err != nil {
				return err
			}
			if have > 0 || want == 0 {
				continue
			}
			if err := plantEnd(pdir, want); err != nil {
				return fmt.Errorf("keep end offset %d of %s/%d: %w", want, t.Name, p, err)
			}
		}
	}
	return nil
}

func plantEnd(partition string, end int64) error {
	if err := os.MkdirAll(partition, 0o755); err != nil {
		return err
	}
	// What is left holds no whole batch; kfake would append after its rubbish.
	if err := removeSegments(partition); err != nil {
		return err
	}
	return writeSynced(segmentPath(partition, end-1), emptyBatch(end-1, time.Now()))
}

// emptyBatchTimeout bounds what takes milliseconds: a request to the broker in this process.
const emptyBatchTimeout = 10 * time.Second

// dropPlanted removes the empty batches again once the broker knows the offsets they stood for. A partition then looks
// as it did when retention had emptied it: its oldest offset is its next. With the batch it would seem to hold a last
// record, and whoever reads up to the end would wait for that one.
func (b *Broker) dropPlanted() error {
	topics, err := readTopics(b.dir)
	if err != nil {
		return err
	}
	ends := kadm.Offsets{}
	for _, t := range topics {
		for p := range t.Partitions {
			end, err := plantedEnd(partitionDir(b.dir, t.Name, p))
			if err != nil {
				return err
			}
			if end > 0 {
				ends.AddOffset(t.Name, int32(p), end, -1) //nolint:gosec // partitions are few
			}
		}
	}
	if len(ends) == 0 {
		return nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), emptyBatchTimeout)
	defer cancel()
	dropped, err := kadm.NewClient(client).DeleteRecords(ctx, ends)
	if err != nil {
		return err
	}
	return dropped.Error()
}

// plantedEnd is the end of a partition that holds nothing but an empty batch, also one that an earlier start left; 0 if
// it holds anything else, or nothing.
func plantedEnd(partition string) (int64, error) {
	bases, err := segmentBases(partition)
	if err != nil || len(bases) != 1 {
		return 0, err
	}
	info, err := os.Stat(segmentPath(partition, bases[0]))
	if err != nil || info.Size() != batchHeader { // a record takes more
		return 0, err
	}
	return bases[0] + 1, nil
}

// emptyBatch is a record batch that takes one offset and holds no record.
func emptyBatch(offset int64, at time.Time) []byte {
	const crcAt, crcFrom = 17, 21
	b := kmsg.RecordBatch{
		FirstOffset:    offset,
		Length:         batchHeader - batchLengthFrom,
		Magic:          2,
		FirstTimestamp: at.UnixMilli(),
		MaxTimestamp:   at.UnixMilli(),
		ProducerID:     -1,
		ProducerEpoch:  -1,
		FirstSequence:  -1,
	}
	raw := b.AppendTo(nil)
	sum := crc32.Checksum(raw[crcFrom:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(raw[crcAt:], sum)
	return raw
}

func removeSegments(partition string) error {
	bases, err := segmentBases(partition)
	if err != nil {
		return err
	}
	for _, base := range bases {
		if err := os.Remove(segmentPath(partition, base)); err != nil {
			return err
		}
		if err := os.Remove(indexPath(partition, base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}
