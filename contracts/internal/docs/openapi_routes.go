package docs

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/getkin/kin-openapi/openapi3"
)

// route is what REST adds to an RPC of api.proto.
type route struct {
	method, path string
	// requestHeaders that the route knows.
	requestHeaders []*openapi3.Parameter
	// dropped are query parameters that only gRPC has, as they are headers here.
	dropped []string
	// etag tells whether the response carries the version of the stream as its ETag.
	etag bool
	// streams tells whether the response has no end.
	streams  bool
	problems []problem
}

// The headers of requests.
var (
	idempotencyKey = requestHeader("Idempotency-Key",
		"Identity of the write: the same key with the same request has one effect, and its first answer is given again. Without a key the server makes one.")
	ifMatch = requestHeader("If-Match",
		`The expected version as a quoted number, such as "41"; the header form of expected_version.`)
	ifNoneMatch = requestHeader("If-None-Match",
		"`*` is: the stream must not exist; the header form of expected_version -1.")
	lastEventID = requestHeader("Last-Event-ID",
		"Position of the last event that the client has seen; an EventSource sends it when it reconnects. It wins over `from`.")
)

// Problems that come in groups.
var (
	always = []problem{malformed, unauthorized, forbidden, throttled, internal, unavailable}
	reads  = slices.Concat(always, []problem{unanswered})
	writes = slices.Concat(always, []problem{notFound, gone, wrongVersion, tooLarge, keyReused, outcomeUnknown})
)

// routes of api.proto, in the order of its RPCs.
var routes = []route{
	{
		method: http.MethodPost, path: "/v1/streams/{stream_id}/events", etag: true, problems: writes,
		requestHeaders: []*openapi3.Parameter{idempotencyKey, ifMatch, ifNoneMatch},
	},
	{method: http.MethodGet, path: "/v1/streams/{stream_id}/events", problems: slices.Concat(reads, []problem{notFound, gone})},
	{method: http.MethodGet, path: "/v1/streams/{stream_id}", etag: true, problems: slices.Concat(reads, []problem{notFound, gone})},
	{
		method: http.MethodDelete, path: "/v1/streams/{stream_id}", problems: writes,
		requestHeaders: []*openapi3.Parameter{idempotencyKey, ifMatch},
		dropped:        []string{"idempotency_key"},
	},
	{method: http.MethodGet, path: "/v1/streams", problems: reads},
	{method: http.MethodGet, path: "/v1/events", problems: reads},
	{method: http.MethodGet, path: "/v1/subscribe", streams: true, problems: slices.Concat(reads, []problem{notAcceptable}), requestHeaders: []*openapi3.Parameter{lastEventID}},
	{method: http.MethodGet, path: "/v1/system", problems: []problem{unauthorized, forbidden, throttled, internal}},
}

// describe adds to the operation what the swagger does not know.
func (r route) describe(doc *openapi3.T) error {
	item := doc.Paths.Value(r.path)
	if item == nil || item.GetOperation(r.method) == nil {
		return fmt.Errorf("find the operation: not in the swagger")
	}
	operation := item.GetOperation(r.method)
	operation.Parameters = slices.DeleteFunc(operation.Parameters, func(p *openapi3.ParameterRef) bool {
		return p.Value != nil && slices.Contains(r.dropped, p.Value.Name)
	})
	for _, h := range r.requestHeaders {
		operation.Parameters = append(operation.Parameters, &openapi3.ParameterRef{Value: h})
	}
	if body := operation.RequestBody; body != nil && body.Value != nil {
		// A remnant of the conversion: bodies have no name in OpenAPI 3.
		delete(body.Value.Extensions, "x-originalParamName")
	}
	success := operation.Responses.Status(http.StatusOK)
	if success == nil || success.Value == nil {
		return fmt.Errorf("find the response 200: not in the swagger")
	}
	if r.streams {
		description := "Frames without end: events, and marks with a position (caught_up, fell_behind, checkpoint, heartbeat)."
		success.Value.Description = &description
		success.Value.Content = openapi3.Content{
			"text/event-stream":    openapi3.NewMediaType().WithSchema(streamText()),
			"application/x-ndjson": openapi3.NewMediaType().WithSchemaRef(schemaRef(doc.Components, "SubscribeResponse")),
		}
	}
	if r.etag {
		success.Value.Headers = openapi3.Headers{"ETag": header("The version of the stream as a quoted number; send it back as If-Match.", openapi3.NewStringSchema())}
	}
	responses := openapi3.NewResponses(openapi3.WithStatus(http.StatusOK, success))
	responses.Delete("default")
	for _, p := range r.problems {
		responses.Set(strconv.Itoa(p.status), &openapi3.ResponseRef{
			Ref: "#/components/responses/" + p.name, Value: doc.Components.Responses[p.name].Value,
		})
	}
	operation.Responses = responses
	return nil
}

// addHead adds HEAD to the stream's head, which no RPC can be annotated with.
func addHead(doc *openapi3.T) error {
	const path = "/v1/streams/{stream_id}"
	item := doc.Paths.Value(path)
	if item == nil || item.Get == nil {
		return fmt.Errorf("add HEAD to %s: not in the swagger", path)
	}
	description := "The stream exists."
	head := *item.Get
	head.OperationID += "Head"
	head.Summary = "HEAD of a stream: its version as the ETag, without a body."
	head.Responses = openapi3.NewResponses(openapi3.WithStatus(http.StatusOK, &openapi3.ResponseRef{Value: &openapi3.Response{
		Description: &description, Headers: item.Get.Responses.Status(http.StatusOK).Value.Headers,
	}}))
	head.Responses.Delete("default")
	for status, response := range item.Get.Responses.Map() {
		if status != "200" {
			head.Responses.Set(status, response)
		}
	}
	item.Head = &head
	return nil
}

// requestHeader is an optional header of requests.
func requestHeader(name, description string) *openapi3.Parameter {
	return openapi3.NewHeaderParameter(name).WithDescription(description).WithSchema(openapi3.NewStringSchema())
}

// streamText describes server-sent events.
func streamText() *openapi3.Schema {
	s := openapi3.NewStringSchema()
	s.Description = "Server-sent events: `event:` is the name of the frame, `id:` the position, `data:` the frame as JSON."
	return s
}
