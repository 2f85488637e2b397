package api

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"

	"github.com/exesdb/exesdb/services/gateway/core"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// sendTimeout is how long a subscriber may not take what is sent to it.
const sendTimeout = 30 * time.Second

// format is how frames look on an HTTP stream. A frame ends at a line break, so
// line breaks between the tokens of a payload become spaces; nothing else changes.
type format struct {
	contentType string
	frame       func(out []byte, kind, position string, body []byte) []byte
}

var (
	serverSentEvents = &format{"text/event-stream", func(out []byte, kind, position string, body []byte) []byte {
		if position != "" {
			out = append(append(out, "id: "...), position...)
			out = append(out, '\n')
		}
		out = append(append(out, "event: "...), kind...)
		out = append(append(out, "\ndata: "...), body...)
		return append(out, '\n', '\n')
	}}
	newlineJSON = &format{"application/x-ndjson", func(out []byte, kind, _ string, body []byte) []byte {
		out = append(append(append(out, `{"`...), kind...), `":`...)
		return append(append(out, body...), '}', '\n')
	}}
)

// accepted picks the format that the Accept header asks for; SSE when it does not care.
func accepted(accept string) (*format, error) {
	if strings.TrimSpace(accept) == "" {
		return serverSentEvents, nil
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, _, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		switch media {
		case "text/event-stream", "text/*", "*/*":
			return serverSentEvents, nil
		case "application/x-ndjson", "application/ndjson", "application/jsonl":
			return newlineJSON, nil
		}
	}
	return nil, core.NotAcceptable(accept)
}

// subscribe serves GET /v1/subscribe.
func (h *rest) subscribe(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	req := &apiv1.SubscribeRequest{}
	as, err := accepted(r.Header.Get("Accept"))
	if err == nil {
		err = runtime.PopulateQueryParameters(req, r.URL.Query(), &utilities.DoubleArray{})
		if err != nil {
			err = core.Malformed("subscribe: %v", err)
		}
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		req.From = last // a reconnecting browser repeats the query as it was
	}
	to := &httpSink{w: w, control: http.NewResponseController(w), format: as}
	if err == nil {
		err = h.service.follow(r.Context(), req, to)
	}
	switch {
	case err == nil || r.Context().Err() != nil || errors.Is(err, errGone):
	case to.started:
		p := toProblem("subscribe", err)
		if to.put("problem", "", p.Wire) == nil {
			_ = to.Flush() // the client may be gone
		}
	default:
		h.service.refuse(w, r, toProblem("subscribe", err))
	}
}

// errGone is a subscriber that does not take what is sent.
var errGone = errors.New("the subscriber is gone")

// httpSink writes frames to an HTTP response. The response begins with the first flush.
type httpSink struct {
	w       http.ResponseWriter
	control *http.ResponseController
	format  *format
	started bool
	buffer  bytes.Buffer
}

// Send implements sink.
func (s *httpSink) Send(frame *apiv1.SubscribeResponse) error {
	switch f := frame.GetFrame().(type) {
	case *apiv1.SubscribeResponse_Event:
		return s.put("event", f.Event.GetPosition(), f.Event)
	case *apiv1.SubscribeResponse_CaughtUp:
		return s.put("caught_up", f.CaughtUp.GetPosition(), f.CaughtUp)
	case *apiv1.SubscribeResponse_FellBehind:
		return s.put("fell_behind", f.FellBehind.GetPosition(), f.FellBehind)
	case *apiv1.SubscribeResponse_Checkpoint:
		return s.put("checkpoint", f.Checkpoint.GetPosition(), f.Checkpoint)
	case *apiv1.SubscribeResponse_Heartbeat:
		return s.put("heartbeat", f.Heartbeat.GetPosition(), f.Heartbeat)
	default:
		return typeError("write", f)
	}
}

// flushBytes is how much is gathered before it is sent.
const flushBytes = 64 << 10

func (s *httpSink) put(kind, position string, body any) error {
	w := writer{oneLine: true}
	if err := w.message(body); err != nil {
		return err
	}
	s.buffer.Write(s.format.frame(s.buffer.AvailableBuffer(), kind, position, w.out))
	if s.buffer.Len() >= flushBytes {
		return s.Flush()
	}
	return nil
}

// Flush implements sink.
func (s *httpSink) Flush() error {
	if !s.started {
		s.started = true
		h := s.w.Header()
		h.Set("Content-Type", s.format.contentType)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no") // for proxies that would gather frames
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	if _, err := s.w.Write(s.buffer.Bytes()); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	s.buffer.Reset()
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}
