package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/services/gateway/trace"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// route is a path of the API.
type route struct {
	// forward is the path that grpc-gateway sees: with a stand-in for the stream id,
	// since its own unescaping would split ids at %2F.
	forward string
	methods []string
	// query are the parameters that it knows.
	query map[string][]string
	// always tells that it answers also while the system is not ready.
	always bool
}

var (
	routeEvents = &route{forward: "/v1/streams/-/events", methods: []string{"GET", "POST"}, query: map[string][]string{
		"GET": {"from_version", "limit", "direction", "min_position"},
	}}
	routeStream = &route{forward: "/v1/streams/-", methods: []string{"DELETE", "GET", "HEAD"}, query: map[string][]string{
		"GET": {"min_position"}, "HEAD": {"min_position"}, "DELETE": {"expected_version", "mode", "idempotency_key"},
	}}
	routes = map[string]*route{
		"/v1/streams":   {methods: []string{"GET"}, query: map[string][]string{"GET": {"prefix", "limit", "page_token"}}},
		"/v1/events":    {methods: []string{"GET"}, query: map[string][]string{"GET": {"from_position", "limit", "event_type", "tag", "stream_prefix", "min_position"}}},
		"/v1/subscribe": {methods: []string{"GET"}, query: map[string][]string{"GET": {"stream", "event_type", "tag", "from", "stream_prefix"}}},
		"/v1/system":    {methods: []string{"GET"}, always: true},
	}
)

// match finds the route of an escaped path and the stream id in it.
func match(escaped string) (r *route, stream string, err error) {
	if r := routes[escaped]; r != nil {
		return r, "", nil
	}
	rest, ok := strings.CutPrefix(escaped, "/v1/streams/")
	if !ok {
		return nil, "", nil
	}
	id, tail, more := strings.Cut(rest, "/")
	switch {
	case !more:
		r = routeStream
	case tail == "events":
		r = routeEvents
	default:
		return nil, "", nil
	}
	stream, err = url.PathUnescape(id)
	return r, stream, err
}

// rest is the HTTP handler: it prepares a request for grpc-gateway's generated
// routes, which call the Service in this process.
type rest struct {
	service *Service
	mux     *runtime.ServeMux
	origin  *http.CrossOriginProtection
	openAPI []byte
}

// NewHTTP makes the REST handler; openAPI is served at /openapi.json, if there is one.
func NewHTTP(s *Service, openAPI []byte) (http.Handler, error) {
	h := &rest{service: s, openAPI: openAPI, origin: http.NewCrossOriginProtection()}
	h.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonCodec{}),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			s.refuse(w, r, toProblem(attemptOf(r), err))
		}),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
			s.refuse(w, r, core.NoSuchPath(r.Method, r.URL.Path))
		}),
		runtime.WithForwardResponseOption(etag),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
	if err := apiv1.RegisterEventStoreHandlerServer(context.Background(), h.mux, inProcess{s}); err != nil {
		return nil, fmt.Errorf("register REST routes: %w", err)
	}
	// In-process streaming is not grpc-gateway's, so this route is ours.
	if err := h.mux.HandlePath("GET", "/v1/subscribe", h.subscribe); err != nil {
		return nil, fmt.Errorf("register /v1/subscribe: %w", err)
	}
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *rest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestID(r)
	w.Header().Set("X-Request-Id", id)
	parent := r.Header.Get("Traceparent")
	if parent != "" {
		w.Header().Set("Traceparent", parent)
	}
	ctx := trace.With(r.Context(), trace.Request{ID: id, Parent: parent})
	switch r.URL.Path {
	case "/":
		h.help(w, r)
		return
	case "/openapi.json":
		h.document(w, r)
		return
	}
	forwarded, err := h.prepare(ctx, w, r)
	if err != nil {
		h.service.refuse(w, r, toProblem(attemptOf(r), err))
		return
	}
	if r.URL.Path != "/v1/subscribe" { // that one ends by itself when the gateway stops
		if err := h.service.drain.enter(attemptOf(r)); err != nil {
			h.service.refuse(w, r, toProblem(attemptOf(r), err))
			return
		}
		defer h.service.drain.leave()
	}
	h.mux.ServeHTTP(w, forwarded)
}

// prepare checks a request and makes the one that grpc-gateway routes.
func (h *rest) prepare(ctx context.Context, w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	route, stream, err := match(r.URL.EscapedPath())
	if err != nil {
		return nil, core.Malformed("%s: the path is not percent-encoded as it should be: %v", attemptOf(r), err)
	}
	if route == nil {
		return nil, core.NoSuchPath(r.Method, core.Quote(r.URL.Path))
	}
	if !slices.Contains(route.methods, r.Method) {
		w.Header().Set("Allow", strings.Join(route.methods, ", "))
		return nil, core.MethodNotAllowed(r.Method, core.Quote(r.URL.Path))
	}
	if err := h.service.authorize(r.Header.Get("Authorization")); err != nil {
		return nil, err
	}
	if h.origin.Check(r) != nil {
		return nil, core.Malformed("%s: the request comes from a web page of another origin, which may not write here", attemptOf(r))
	}
	if !route.always {
		if err := h.service.openFor(r.Method == http.MethodGet || r.Method == http.MethodHead); err != nil {
			return nil, err
		}
	}
	if err := knownQuery(r, route.query[r.Method]); err != nil {
		return nil, err
	}
	info := headers{stream: stream, method: r.Method}
	if err := info.read(r.Header); err != nil {
		return nil, core.Malformed("%s: %v", attemptOf(r), err)
	}
	var body *wholeBody
	if r.Method == http.MethodPost {
		if body, err = h.body(w, r); err != nil {
			return nil, err
		}
	}
	out := r.WithContext(context.WithValue(ctx, headersKey{}, info))
	if body != nil {
		out.Body = body
	}
	if r.Method == http.MethodHead { // net/http drops the body
		out.Method = http.MethodGet
	}
	if route.forward != "" {
		u := *r.URL
		u.Path, u.RawPath = route.forward, ""
		out.URL = &u
	}
	return out, nil
}

// bodyTimeout is how long a client may take to send a body.
const bodyTimeout = 30 * time.Second

// wholeBody is a body that was read, within its bound.
type wholeBody struct {
	bytes.Reader
	bytes []byte
}

// Close implements io.Closer.
func (*wholeBody) Close() error { return nil }

func (h *rest) body(w http.ResponseWriter, r *http.Request) (*wholeBody, error) {
	limit := h.service.BodyBytes
	large := func() error {
		return core.TooLarge("%s: the body is larger than %d bytes; split the write", attemptOf(r), limit)
	}
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, large()
	}
	// Only while the body is read: a deadline that stays would end long answers.
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(bodyTimeout)) == nil {
		defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	}
	buffer := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength+bytes.MinRead, bytes.MinRead)))
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return nil, large()
		}
		return nil, core.Malformed("%s: the body ended early: %v", attemptOf(r), err)
	}
	b := &wholeBody{bytes: buffer.Bytes()}
	b.Reset(b.bytes)
	return b, nil
}

func knownQuery(r *http.Request, known []string) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return core.Malformed("%s: the query is malformed: %v", attemptOf(r), err)
	}
	for name, vs := range values {
		if !slices.Contains(known, name) {
			what := "it takes none"
			if len(known) > 0 {
				what = "want " + list(known)
			}
			return core.Malformed("%s: unknown query parameter %s: %s", attemptOf(r), core.Quote(name), what)
		}
		if len(vs) > 1 && name != "event_type" && name != "tag" {
			return core.Malformed("%s: query parameter %q is given %d times: want it once", attemptOf(r), name, len(vs))
		}
	}
	return nil
}

// attemptOf says in errors what was attempted.
func attemptOf(r *http.Request) string {
	if info, ok := r.Context().Value(headersKey{}).(headers); ok && info.stream != "" {
		switch info.method {
		case http.MethodPost:
			return "append to stream " + core.Quote(info.stream)
		case http.MethodDelete:
			return core.DeleteAttempt(info.stream)
		}
		return core.StreamAttempt("read", info.stream)
	}
	path := r.URL.Path
	if len(path) > 80 {
		path = path[:80] + "…"
	}
	return r.Method + " " + strings.ToValidUTF8(path, "\ufffd")
}

func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); id != "" && len(id) <= 128 {
		return id
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// etag gives the version of a stream as the entity tag.
func etag(_ context.Context, w http.ResponseWriter, m proto.Message) error {
	var version int64
	switch m := m.(type) {
	case *apiv1.GetStreamResponse:
		version = m.GetVersion()
	case *apiv1.ReadStreamResponse:
		version = m.GetStreamVersion()
	case *apiv1.AppendResponse:
		version = m.GetNewVersion()
	default:
		return nil
	}
	w.Header().Set("ETag", strconv.Quote(strconv.FormatInt(version, 10)))
	return nil
}

func (h *rest) document(w http.ResponseWriter, r *http.Request) {
	if len(h.openAPI) == 0 {
		h.service.refuse(w, r, core.NoSuchPath(r.Method, r.URL.Path))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(h.openAPI) // the client may be gone
}

func (h *rest) help(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.service.refuse(w, r, core.MethodNotAllowed(r.Method, r.URL.Path))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, helpText) // the client may be gone
}

const helpText = `ExESDB: an event store.

POST   /v1/streams/{stream_id}/events   append; Idempotency-Key, If-Match: "41", If-None-Match: *
GET    /v1/streams/{stream_id}/events   read; from_version, limit, direction, min_position
GET    /v1/streams/{stream_id}          version and count (HEAD: ETag only)
DELETE /v1/streams/{stream_id}          delete; mode=soft or tombstone, expected_version
GET    /v1/streams                      list; prefix, limit, page_token
GET    /v1/events                       read all; from_position, limit, event_type, tag, stream_prefix
GET    /v1/subscribe                    follow as SSE or NDJSON; stream, event_type, tag, from
GET    /v1/system                       who is there, who leads, what is ready
GET    /openapi.json                    this API as OpenAPI, where it is built in

curl -X POST localhost:8080/v1/streams/hello/events -d '{"events":[{"event_type":"Greeted","data":{"to":"world"}}]}'
curl localhost:8080/v1/streams/hello/events
`
