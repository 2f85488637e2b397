package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// Limits of one write of an import, and how many wait for their answer.
const (
	importEvents = 500
	importBytes  = 1 << 20
	importWindow = 512
	longestLine  = 8 << 20
)

// importKeepEvery is how often it is written down how far the import came;
// what was appended since is appended again by the next run, with no effect.
const importKeepEvery = 200 * time.Millisecond

// importCommand appends events from NDJSON.
type importCommand struct {
	target `embed:""`
	File   string `arg:"" help:"NDJSON, one event a line: stream_id, event_type, data or data_base64, and optionally event_id, metadata, tags; \"-\" is standard input."`
}

// importWrite is a run of lines of one stream, appended as one write.
type importWrite struct {
	request *apiv1.AppendRequest
	bytes   int
	end     int64 // bytes of the file up to its last line
	lines   int
	first   int // number of its first line
}

// Run appends each line once: an event without an id gets one from its place
// and content, so that the same file imported again changes nothing. How far it
// came is kept beside the file.
func (m *importCommand) Run(ctx context.Context) error {
	file, size, err := m.open()
	if err != nil {
		return err
	}
	defer file.Close()
	checkpoint := importCheckpoint{path: m.File + ".exesdb-import"}
	done, line, err := checkpoint.load(m.File)
	if err != nil {
		return err
	}
	if done > 0 {
		if _, err := file.Seek(done, io.SeekStart); err != nil {
			return fmt.Errorf("go on with %s at byte %d: %w", m.File, done, err)
		}
		fmt.Fprintf(os.Stderr, "going on after line %d (remove %s to start again)\n", line, checkpoint.path)
	}
	client, closeConn, err := m.dial()
	if err != nil {
		return err
	}
	defer closeConn()
	bar := progress(size, "importing")
	_ = bar.Set64(done)

	g, ctx := errgroup.WithContext(m.context(ctx))
	stream, err := client.AppendStream(ctx)
	if err != nil {
		return explain("import", err)
	}
	sent := make(chan importWrite, importWindow)
	g.Go(func() error {
		defer close(sent)
		err := splitWrites(file, done, line, func(w importWrite) error {
			select {
			case sent <- w:
			case <-ctx.Done():
				return ctx.Err()
			}
			return stream.Send(&apiv1.AppendStreamRequest{Correlation: uint64(w.first), Append: w.request}) //nolint:gosec // a line number
		})
		return errors.Join(err, stream.CloseSend())
	})
	total := line
	g.Go(func() error {
		kept := time.Now()
		early := map[uint64]*apiv1.AppendStreamResponse{}
		for w := range sent {
			for early[uint64(w.first)] == nil { //nolint:gosec // a line number
				resp, err := stream.Recv()
				if err != nil {
					return explain(fmt.Sprintf("import from line %d", w.first), err)
				}
				early[resp.GetCorrelation()] = resp
			}
			resp := early[uint64(w.first)]       //nolint:gosec // a line number
			delete(early, resp.GetCorrelation()) // answers may overtake each other
			if p := resp.GetProblem(); p != nil {
				return fmt.Errorf("import lines %d to %d into stream %s: %s: %s", w.first, w.first+w.lines-1, w.request.GetStreamId(), p.GetTitle(), p.GetDetail())
			}
			total = w.first + w.lines - 1
			_ = bar.Set64(w.end)
			if time.Since(kept) > importKeepEvery {
				if err := checkpoint.save(w.end, total); err != nil {
					return err
				}
				kept = time.Now()
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	_ = bar.Finish()
	fmt.Fprintf(os.Stderr, "imported %d events\n", total)
	return checkpoint.finish()
}

func (m *importCommand) open() (*os.File, int64, error) {
	if m.File == "-" {
		return os.Stdin, -1, nil
	}
	file, err := os.Open(m.File)
	if err != nil {
		return nil, 0, fmt.Errorf("read the import: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("read the import: %w", err), file.Close())
	}
	return file, info.Size(), nil
}

// splitWrites reads lines and gives runs of one stream to send. offset and line
// are what was read of the file before.
func splitWrites(r io.Reader, offset int64, line int, send func(importWrite) error) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 1<<20), longestLine)
	var w importWrite
	flush := func() error {
		if w.request == nil {
			return nil
		}
		full := w
		w = importWrite{}
		return send(full)
	}
	for scanner.Scan() {
		line++
		offset += int64(len(scanner.Bytes())) + 1
		if len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		stream, event, err := parseLine(scanner.Bytes(), line)
		if err != nil {
			return errors.Join(flush(), err)
		}
		size := len(scanner.Bytes())
		if w.request != nil && (w.request.GetStreamId() != stream || w.lines == importEvents || w.bytes+size > importBytes) {
			if err := flush(); err != nil {
				return err
			}
		}
		if w.request == nil {
			w.request, w.first = &apiv1.AppendRequest{StreamId: stream}, line
		}
		w.request.Events = append(w.request.Events, event)
		w.lines, w.bytes, w.end = line-w.first+1, w.bytes+size, offset
	}
	if err := scanner.Err(); err != nil {
		return errors.Join(flush(), fmt.Errorf("read line %d: %w", line+1, err))
	}
	return flush()
}

func parseLine(text []byte, number int) (string, *apiv1.ProposedEvent, error) {
	var l eventLine
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return "", nil, fmt.Errorf("line %d is not an event: %w", number, err)
	}
	if l.StreamID == "" || l.EventType == "" {
		return "", nil, fmt.Errorf("line %d: stream_id and event_type are needed", number)
	}
	event, err := l.proposed()
	if err != nil {
		return "", nil, fmt.Errorf("line %d: data_base64: %w", number, err)
	}
	if event.GetEventId() == "" {
		event.EventId = uuid.NewSHA1(uuid.NameSpaceOID, append(strconv.AppendInt(nil, int64(number), 10), text...)).String()
	}
	return l.StreamID, event, nil
}

// importCheckpoint is the file that remembers how far an import came.
type importCheckpoint struct{ path string }

func (c importCheckpoint) load(source string) (int64, int, error) {
	if source == "-" {
		return 0, 0, nil
	}
	text, err := os.ReadFile(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	var offset int64
	var line int
	if err == nil {
		_, err = fmt.Sscanf(strings.TrimSpace(string(text)), "%d %d", &offset, &line)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read how far the import came (remove %s to start again): %w", c.path, err)
	}
	return offset, line, nil
}

func (c importCheckpoint) save(offset int64, line int) error {
	if strings.HasPrefix(c.path, "-.") {
		return nil
	}
	if err := os.WriteFile(c.path, fmt.Appendf(nil, "%d %d\n", offset, line), 0o600); err != nil {
		return fmt.Errorf("keep how far the import came: %w", err)
	}
	return nil
}

func (c importCheckpoint) finish() error {
	if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", c.path, err)
	}
	return nil
}
