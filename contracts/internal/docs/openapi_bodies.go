package docs

import (
	"fmt"

	"github.com/getkin/kin-openapi/openapi3"
)

// useJSONBodies gives events the form that they have in REST: `data` is any JSON
// value where the message has bytes.
func useJSONBodies(schemas openapi3.Schemas) error {
	for _, name := range []string{"Event", "ProposedEvent"} {
		event, ok := schemas[name]
		if !ok || event.Value == nil {
			return fmt.Errorf("describe the body of %s: not in the swagger", name)
		}
		useJSONEvent(event.Value)
	}
	proposed := schemas["ProposedEvent"].Value
	proposed.Required = []string{"event_type"}
	proposed.Example = map[string]any{
		"event_id":   "4a9d6a0e-6d5c-4e0f-9b3f-0d5a1f2f8c11",
		"event_type": "order_placed",
		"data":       map[string]any{"order": 41, "total": "12.50"},
		"metadata":   map[string]any{"user": "ada"},
		"tags":       []any{"customer:7"},
	}

	// An event has exactly one body, and a name that is not known is refused.
	proposed.OneOf = openapi3.SchemaRefs{requires("data"), requires("data_base64")}
	proposed.AdditionalProperties = openapi3.AdditionalProperties{Has: openapi3.Ptr(false)}

	recorded := schemas["Event"].Value
	// The moment is text too in REST, as in CloudEvents JSON.
	created := openapi3.NewStringSchema().WithFormat("date-time")
	created.Description = "When it was recorded (RFC 3339); never goes back within a shard."
	recorded.Properties["created_at"] = created.NewRef()
	recorded.Required = []string{"event_id", "event_type", "stream_id", "version", "position", "created_at", "created_at_ms"}

	request, ok := schemas["AppendRequest"]
	if !ok || request.Value == nil {
		return fmt.Errorf("describe the body of AppendRequest: not in the swagger")
	}
	request.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: openapi3.Ptr(false)}
	request.Value.Required = []string{"events"}
	if events, ok := request.Value.Properties["events"]; ok && events.Value != nil {
		events.Value.MinItems = 1
	}
	return nil
}

// requires is a schema that asks for one property.
func requires(property string) *openapi3.SchemaRef {
	return (&openapi3.Schema{Required: []string{property}}).NewRef()
}

// useJSONEvent replaces the bytes of one event's schema.
func useJSONEvent(event *openapi3.Schema) {
	event.Properties["data"] = (&openapi3.Schema{
		Nullable:    true, // null is a JSON value too.
		Description: "Any JSON value; kept and returned byte for byte, big numbers and the order of keys included.",
	}).NewRef()
	binary := openapi3.NewStringSchema().WithFormat("byte")
	binary.Description = "Binary data instead of `data`, as in CloudEvents JSON."
	event.Properties["data_base64"] = binary.NewRef()
	metadata := openapi3.NewObjectSchema().WithAnyAdditionalProperties()
	metadata.Description = "A JSON object; kept and returned byte for byte."
	event.Properties["metadata"] = metadata.NewRef()
	delete(event.Properties, "binary")
}
