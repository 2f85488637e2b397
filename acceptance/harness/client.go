package harness

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Expected versions with a meaning of their own.
const (
	NoStream     int64 = -1
	Any          int64 = -2
	StreamExists int64 = -4
)

// Event is an event to append.
type Event struct {
	EventID    string          `json:"event_id,omitempty"`
	EventType  string          `json:"event_type"`
	Data       json.RawMessage `json:"data,omitempty"`
	DataBase64 *string         `json:"data_base64,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
	Tags       []string        `json:"tags,omitempty"`
}

// Recorded is an event of the store.
type Recorded struct {
	Event
	StreamID    string `json:"stream_id"`
	Version     int64  `json:"version"`
	Position    string `json:"position"`
	CreatedAtMs int64  `json:"created_at_ms"`
}

// Body is the payload in bytes, binary or not.
func (e Event) Body() []byte {
	if e.DataBase64 == nil {
		return e.Data
	}
	data, err := base64.StdEncoding.DecodeString(*e.DataBase64)
	if err != nil {
		return []byte("not base64: " + *e.DataBase64)
	}
	return data
}

// Append is one append.
type Append struct {
	Stream   string
	Expected *int64
	Key      string
	Events   []Event
}

// Appended is the answer to an append.
type Appended struct {
	StreamID     string   `json:"stream_id"`
	WriteID      string   `json:"write_id"`
	FirstVersion int64    `json:"first_version"`
	NewVersion   int64    `json:"new_version"`
	Position     string   `json:"position"`
	EventIDs     []string `json:"event_ids"`
}

// Page is one page of a stream or of all streams.
type Page struct {
	Events        []Recorded `json:"events"`
	StreamVersion int64      `json:"stream_version"`
	NextVersion   int64      `json:"next_version"`
	NextPosition  string     `json:"next_position"`
	HasMore       bool       `json:"has_more"`
}

// Head is the head of a stream.
type Head struct {
	StreamID string `json:"stream_id"`
	Version  int64  `json:"version"`
	Count    int64  `json:"count"`
}

// System is what GET /v1/system says.
type System struct {
	StoreID string   `json:"store_id"`
	Shards  int32    `json:"shards"`
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing"`
	Nodes   []struct {
		Node    string `json:"node"`
		System  string `json:"system"`
		Address string `json:"address"`
		Ready   bool   `json:"ready"`
	} `json:"nodes"`
	Leaders []struct {
		Role  string `json:"role"`
		Shard int32  `json:"shard"`
		Node  string `json:"node"`
		Term  int64  `json:"term"`
	} `json:"leaders"`
	Version string `json:"version"`
}

// Problem is an answer that is an error, over REST or gRPC.
type Problem struct {
	Type            string `json:"type"`
	Title           string `json:"title"`
	Status          int    `json:"status"`
	Detail          string `json:"detail"`
	StreamID        string `json:"stream_id"`
	ExpectedVersion *int64 `json:"expected_version"`
	ActualVersion   *int64 `json:"actual_version"`
	WriteID         string `json:"write_id"`
	RetryAfter      int    `json:"retry_after"`

	Header http.Header `json:"-"`
}

// Error is status, type and detail.
func (p *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s", p.Status, p.Type, p.Detail)
}

// Status is the HTTP status of a problem, 200 for no error, 0 for an error without an answer.
func Status(err error) int {
	var p *Problem
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &p):
		return p.Status
	default:
		return 0
	}
}

// Unsettled tells whether a write may be tried again with the same key: its outcome
// is unknown, or nothing was done.
func Unsettled(err error) bool {
	switch Status(err) {
	case 0, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}

// Store is what both clients do.
type Store interface {
	Append(ctx context.Context, a Append) (Appended, error)
	// Head returns version -1 for a stream that does not exist.
	Head(ctx context.Context, stream string) (Head, error)
}

// REST talks to a gateway over HTTP.
type REST struct {
	URL  string
	http *http.Client
}

// NewREST makes a client for a gateway's address.
func NewREST(addr string) *REST {
	return &REST{URL: "http://" + addr, http: &http.Client{
		Timeout: 15 * time.Second,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 256, DisableCompression: true,
			DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		},
	}}
}

// Answer is a whole HTTP answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem reads the answer as a problem.
func (a Answer) Problem() *Problem {
	p := &Problem{Header: a.Header}
	if err := json.Unmarshal(a.Body, p); err != nil || p.Status == 0 {
		p.Status, p.Detail = a.Status, "not a problem: "+string(a.Body)
	}
	return p
}

// Do sends one request. headers are pairs.
func (c *REST) Do(ctx context.Context, method, path string, body []byte, headers ...string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	return Answer{resp.StatusCode, resp.Header, read}, nil
}

func (c *REST) get(ctx context.Context, path string, into any) error {
	a, err := c.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return a.Problem()
	}
	return json.Unmarshal(a.Body, into)
}

// StreamPath is the path of a stream, escaped.
func StreamPath(stream string) string { return "/v1/streams/" + url.PathEscape(stream) }

// Append implements Store.
func (c *REST) Append(ctx context.Context, a Append) (Appended, error) {
	body, err := json.Marshal(struct {
		ExpectedVersion *int64  `json:"expected_version,omitempty"`
		Events          []Event `json:"events"`
	}{a.Expected, a.Events})
	if err != nil {
		return Appended{}, err
	}
	var headers []string
	if a.Key != "" {
		headers = []string{"Idempotency-Key", a.Key}
	}
	answer, err := c.Do(ctx, http.MethodPost, StreamPath(a.Stream)+"/events", body, headers...)
	if err != nil {
		return Appended{}, err
	}
	if answer.Status/100 != 2 {
		return Appended{}, answer.Problem()
	}
	var out Appended
	err = json.Unmarshal(answer.Body, &out)
	return out, err
}

// Delete deletes a stream: mode soft or tombstone.
func (c *REST) Delete(ctx context.Context, stream, mode string, expected *int64, key string) error {
	path := StreamPath(stream) + "?mode=" + mode
	if expected != nil {
		path += "&expected_version=" + strconv.FormatInt(*expected, 10)
	}
	var headers []string
	if key != "" {
		headers = []string{"Idempotency-Key", key}
	}
	a, err := c.Do(ctx, http.MethodDelete, path, nil, headers...)
	if err != nil {
		return err
	}
	if a.Status/100 != 2 {
		return a.Problem()
	}
	return nil
}

// Head implements Store.
func (c *REST) Head(ctx context.Context, stream string) (Head, error) {
	var h Head
	err := c.get(ctx, StreamPath(stream), &h)
	if Status(err) == http.StatusNotFound {
		return Head{StreamID: stream, Version: -1}, nil
	}
	return h, err
}

// System asks for the state of the system.
func (c *REST) System(ctx context.Context) (System, error) {
	var s System
	err := c.get(ctx, "/v1/system", &s)
	return s, err
}

// ReadPage reads one page of a stream; query is added as it is.
func (c *REST) ReadPage(ctx context.Context, stream, query string) (Page, error) {
	var p Page
	err := c.get(ctx, StreamPath(stream)+"/events?"+query, &p)
	return p, err
}

// ReadStream reads a whole stream; none when it does not exist.
func (c *REST) ReadStream(ctx context.Context, stream string) ([]Recorded, error) {
	var all []Recorded
	for from := int64(0); ; {
		page, err := c.ReadPage(ctx, stream, fmt.Sprintf("limit=1000&from_version=%d", from))
		if Status(err) == http.StatusNotFound && len(all) == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read stream %s from version %d: %w", stream, from, err)
		}
		all = append(all, page.Events...)
		if !page.HasMore {
			return all, nil
		}
		if page.NextVersion <= from {
			return nil, fmt.Errorf("read stream %s from version %d: next_version is %d", stream, from, page.NextVersion)
		}
		from = page.NextVersion
	}
}

// ReadAll reads all streams; query is added as it is.
func (c *REST) ReadAll(ctx context.Context, query string) ([]Recorded, error) {
	var all []Recorded
	for from := ""; ; {
		var page Page
		if err := c.get(ctx, "/v1/events?limit=1000&from_position="+url.QueryEscape(from)+"&"+query, &page); err != nil {
			return nil, fmt.Errorf("read all streams from position %q: %w", from, err)
		}
		all = append(all, page.Events...)
		if !page.HasMore {
			return all, nil
		}
		if page.NextPosition == from {
			return nil, fmt.Errorf("read all streams from position %q: it goes on there again", from)
		}
		from = page.NextPosition
	}
}

// ListStreams lists all streams with a prefix.
func (c *REST) ListStreams(ctx context.Context, prefix string) ([]Head, error) {
	var all []Head
	for token := ""; ; {
		var page struct {
			Streams []Head `json:"streams"`
			Next    string `json:"next_page_token"`
		}
		if err := c.get(ctx, "/v1/streams?limit=1000&prefix="+url.QueryEscape(prefix)+"&page_token="+url.QueryEscape(token), &page); err != nil {
			return nil, fmt.Errorf("list streams from %q: %w", token, err)
		}
		all = append(all, page.Streams...)
		if page.Next == "" {
			return all, nil
		}
		token = page.Next
	}
}

// AppendUntilKnown appends, and tries again with the same key while the outcome is
// unknown, until ctx is done. tries is how often it asked.
func AppendUntilKnown(ctx context.Context, s Store, a Append) (out Appended, tries int, err error) {
	if a.Key == "" {
		return out, 0, errors.New("append until known: without a key a retry has a second effect")
	}
	pause := 5 * time.Millisecond
	for tries = 1; ; tries++ {
		out, err = s.Append(ctx, a)
		if !Unsettled(err) {
			return out, tries, err
		}
		select {
		case <-ctx.Done():
			return out, tries, err
		case <-time.After(pause):
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}
