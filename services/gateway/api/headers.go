package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/exesdb/exesdb/services/gateway/core"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// headers are what a REST request says outside its body and query.
type headers struct {
	stream, method string
	key            string // Idempotency-Key
	expected       *int64 // If-Match or If-None-Match
	from           string // the header that expected is from
}

type headersKey struct{}

func (h *headers) read(in http.Header) error {
	for _, name := range []string{"Idempotency-Key", "If-Match", "If-None-Match"} {
		if len(in.Values(name)) > 1 {
			return fmt.Errorf("header %s is given %d times: want it once", name, len(in.Values(name)))
		}
	}
	h.key = in.Get("Idempotency-Key")
	if h.method != http.MethodPost && h.method != http.MethodDelete {
		return nil // conditions on reads are for caches
	}
	match, none := in.Get("If-Match"), in.Get("If-None-Match")
	switch {
	case match != "" && none != "":
		return errors.New("If-Match and If-None-Match are both given: want one of them")
	case match == "*":
		h.expect(core.StreamExists, "If-Match")
	case match != "":
		digits, quoted := strings.CutPrefix(match, `"`)
		digits, closed := strings.CutSuffix(digits, `"`)
		version, err := strconv.ParseInt(digits, 10, 64)
		if !quoted || !closed || err != nil || version < 0 {
			return fmt.Errorf("If-Match %s: want one version in quotes, such as \"41\", or *", core.Quote(match))
		}
		h.expect(version, "If-Match")
	case none == "*":
		h.expect(core.NoStream, "If-None-Match")
	case none != "":
		return fmt.Errorf("If-None-Match %s: want *, which is that there is no stream", core.Quote(none))
	}
	return nil
}

func (h *headers) expect(version int64, from string) { h.expected, h.from = &version, from }

// merge brings headers and fields together: they may repeat but not contradict each other.
func (h *headers) merge(expected **int64, key *string) error {
	if h.expected != nil {
		if *expected != nil && **expected != *h.expected {
			return fmt.Errorf("%s says version %d, but expected_version says %d: want one, or the same", h.from, *h.expected, **expected)
		}
		*expected = h.expected
	}
	if h.key != "" {
		if *key != "" && *key != h.key {
			return fmt.Errorf("the header Idempotency-Key says %s, but idempotency_key says %s: want one, or the same", core.Quote(h.key), core.Quote(*key))
		}
		*key = h.key
	}
	return nil
}

// inProcess is the Service as REST calls it: with the stream id and the headers
// of the HTTP request in place of their stand-ins.
type inProcess struct{ *Service }

func headersOf(ctx context.Context) headers {
	h, _ := ctx.Value(headersKey{}).(headers)
	return h
}

// Append adds the path and the headers.
func (p inProcess) Append(ctx context.Context, req *apiv1.AppendRequest) (*apiv1.AppendResponse, error) {
	h := headersOf(ctx)
	req.StreamId = h.stream
	if err := h.merge(&req.ExpectedVersion, &req.IdempotencyKey); err != nil {
		return nil, core.Malformed("%s: %v", core.AppendAttempt(h.stream, len(req.GetEvents())), err).About(h.stream)
	}
	return p.Service.Append(ctx, req)
}

// DeleteStream adds the path and the headers.
func (p inProcess) DeleteStream(ctx context.Context, req *apiv1.DeleteStreamRequest) (*apiv1.DeleteStreamResponse, error) {
	h := headersOf(ctx)
	req.StreamId = h.stream
	if err := h.merge(&req.ExpectedVersion, &req.IdempotencyKey); err != nil {
		return nil, core.Malformed("%s: %v", core.DeleteAttempt(h.stream), err).About(h.stream)
	}
	return p.Service.DeleteStream(ctx, req)
}

// ReadStream adds the path.
func (p inProcess) ReadStream(ctx context.Context, req *apiv1.ReadStreamRequest) (*apiv1.ReadStreamResponse, error) {
	req.StreamId = headersOf(ctx).stream
	return p.Service.ReadStream(ctx, req)
}

// GetStream adds the path.
func (p inProcess) GetStream(ctx context.Context, req *apiv1.GetStreamRequest) (*apiv1.GetStreamResponse, error) {
	req.StreamId = headersOf(ctx).stream
	return p.Service.GetStream(ctx, req)
}
