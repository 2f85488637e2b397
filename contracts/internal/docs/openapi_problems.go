package docs

import (
	"github.com/getkin/kin-openapi/openapi3"
)

// problem is one way in which a request ends without effect, or with an unknown one.
type problem struct {
	status int
	// name of the response among the document's components.
	name string
	// description says what it means and what to do.
	description string
	// retryAfter tells whether the response says when to try again.
	retryAfter bool
}

// The problems of the API.
var (
	malformed      = problem{status: 400, name: "Malformed", description: "The request is malformed; `detail` says where. Mend it."}
	unauthorized   = problem{status: 401, name: "Unauthorized", description: "The request has no bearer token, and the gateway asks for one (EXESDB_TOKEN)."}
	forbidden      = problem{status: 403, name: "Forbidden", description: "The bearer token is not the gateway's."}
	notFound       = problem{status: 404, name: "StreamNotFound", description: "There is no such stream, or it was deleted softly."}
	gone           = problem{status: 410, name: "StreamTombstoned", description: "The stream was deleted for ever; its id cannot be used again."}
	wrongVersion   = problem{status: 412, name: "WrongExpectedVersion", description: "The stream is not at the expected version; the problem has `expected_version` and `actual_version`. Read the stream and decide again."}
	notAcceptable  = problem{status: 406, name: "NotAcceptable", description: "The Accept header names neither text/event-stream nor application/x-ndjson."}
	tooLarge       = problem{status: 413, name: "TooLarge", description: "An event or the write is larger than the store takes."}
	keyReused      = problem{status: 422, name: "KeyReused", description: "The Idempotency-Key, or an event id, was used for another write. Choose a new one."}
	internal       = problem{status: 500, name: "Internal", description: "The gateway has a fault, which its log tells; the outcome is unknown."}
	throttled      = problem{status: 429, name: "Throttled", description: "Too many requests are under way. Nothing was written; try again after Retry-After.", retryAfter: true}
	unavailable    = problem{status: 503, name: "Unavailable", description: "The system is not ready, or a shard has no quorum. Nothing was written; try again after Retry-After.", retryAfter: true}
	outcomeUnknown = problem{status: 504, name: "OutcomeUnknown", description: "The deadline passed and the outcome is unknown. Try again with the same Idempotency-Key: there is one effect."}
	unanswered     = problem{status: 504, name: "Unanswered", description: "No replica answered within the deadline. Try again."}
)

// problems of all routes.
var problems = []problem{
	malformed, unauthorized, forbidden, notFound, gone, notAcceptable, wrongVersion, tooLarge, keyReused, throttled, internal, unavailable, outcomeUnknown, unanswered,
}

// addProblems adds the schema Problem and a response for every problem.
func addProblems(components *openapi3.Components) {
	components.Schemas["Problem"] = problemSchema().NewRef()
	components.Responses = openapi3.ResponseBodies{}
	for _, p := range problems {
		response := openapi3.NewResponse().WithDescription(p.description).WithContent(openapi3.Content{
			"application/problem+json": openapi3.NewMediaType().WithSchemaRef(schemaRef(components, "Problem")),
		})
		if p.retryAfter {
			response.Headers = openapi3.Headers{"Retry-After": header("Seconds after which to try again.", openapi3.NewIntegerSchema())}
		}
		components.Responses[p.name] = &openapi3.ResponseRef{Value: response}
	}
}

// problemSchema is RFC 9457 with the members of the message Problem.
func problemSchema() *openapi3.Schema {
	text := func(description string) *openapi3.SchemaRef {
		s := openapi3.NewStringSchema()
		s.Description = description
		return s.NewRef()
	}
	number := func(description string) *openapi3.SchemaRef {
		s := openapi3.NewInt64Schema()
		s.Description = description
		return s.NewRef()
	}
	s := openapi3.NewObjectSchema()
	s.Description = "What was attempted, what was wrong and what to do (RFC 9457)."
	s.Properties = openapi3.Schemas{
		"type":             text(`Stable, such as "wrong-expected-version".`),
		"title":            text("The kind of problem, in words."),
		"status":           openapi3.NewInt32Schema().NewRef(),
		"detail":           text("What was wrong in this request and what to do."),
		"stream_id":        text("The stream, where there is one."),
		"expected_version": number("The version that the request expected."),
		"actual_version":   number("The version that the stream has; -1 is no stream."),
		"write_id":         text("Identity of the write, where it has one."),
		"retry_after":      openapi3.NewInt32Schema().NewRef(),
	}
	s.Properties["status"].Value.Description = "The HTTP status."
	s.Properties["retry_after"].Value.Description = "Seconds after which to try again."
	s.Required = []string{"type", "title", "status"}
	s.Example = map[string]any{
		"type": "wrong-expected-version", "title": "Wrong expected version", "status": 412,
		"detail":    "append to order-41: expected version 3, the stream is at 5; read it and decide again",
		"stream_id": "order-41", "expected_version": 3, "actual_version": 5,
	}
	return s
}

// schemaRef refers to a schema among the components.
func schemaRef(components *openapi3.Components, name string) *openapi3.SchemaRef {
	return openapi3.NewSchemaRef("#/components/schemas/"+name, components.Schemas[name].Value)
}

// header of a response.
func header(description string, schema *openapi3.Schema) *openapi3.HeaderRef {
	return &openapi3.HeaderRef{Value: &openapi3.Header{Parameter: openapi3.Parameter{
		Description: description, Schema: schema.NewRef(),
	}}}
}
