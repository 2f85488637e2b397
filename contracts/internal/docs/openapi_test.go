package docs_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	"github.com/exesdb/exesdb/contracts/internal/docs"
)

func loadOpenAPI(t *testing.T) *openapi3.T {
	t.Helper()
	document := generate(t)[docs.OpenAPIPath]
	if err := docs.Validate(document); err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// designed are the routes of the design's section 10, and whether api.proto has them yet.
var designed = []struct {
	method, path string
	ours         bool
}{
	{"POST", "/v1/streams/{stream_id}/events", true},
	{"GET", "/v1/streams/{stream_id}/events", true},
	{"GET", "/v1/streams/{stream_id}", true},
	{"HEAD", "/v1/streams/{stream_id}", true},
	{"DELETE", "/v1/streams/{stream_id}", true},
	{"GET", "/v1/streams", true},
	{"GET", "/v1/events", true},
	{"GET", "/v1/subscribe", true},
	{"GET", "/v1/system", true},
	{"POST", "/v1/subscriptions", false},
	{"GET", "/v1/subscriptions/{name}", false},
	{"DELETE", "/v1/subscriptions/{name}", false},
	{"PUT", "/v1/streams/{stream_id}/snapshot", false},
	{"GET", "/v1/streams/{stream_id}/snapshot", false},
	{"DELETE", "/v1/streams/{stream_id}/snapshot", false},
}

func TestOpenAPIHasTheRoutesOfTheDesign(t *testing.T) {
	doc := loadOpenAPI(t)
	for _, route := range designed {
		item := doc.Paths.Value(route.path)
		if has := item != nil && item.GetOperation(route.method) != nil; has != route.ours {
			t.Errorf("%s %s: described %t, want %t", route.method, route.path, has, route.ours)
		}
	}
}

func TestOpenAPIHasTheRoutesOfTheProto(t *testing.T) {
	doc := loadOpenAPI(t)
	routes := 1 // HEAD, which no RPC can be annotated with.
	services := apiv1.File_exesdb_api_v1_api_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			rule, ok := proto.GetExtension(methods.Get(j).Options(), annotations.E_Http).(*annotations.HttpRule)
			if !ok || rule == nil {
				continue // Only over gRPC.
			}
			routes++
			method, path := verb(t, rule)
			item := doc.Paths.Value(path)
			if item == nil || item.GetOperation(method) == nil {
				t.Errorf("%s: %s %s is not described", methods.Get(j).Name(), method, path)
			}
		}
	}
	described := 0
	for _, item := range doc.Paths.Map() {
		described += len(item.Operations())
	}
	if described != routes {
		t.Errorf("%d operations are described, api.proto has %d", described, routes)
	}
}

// verb of an annotation and its path.
func verb(t *testing.T, rule *annotations.HttpRule) (method, path string) {
	t.Helper()
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return "GET", pattern.Get
	case *annotations.HttpRule_Post:
		return "POST", pattern.Post
	case *annotations.HttpRule_Put:
		return "PUT", pattern.Put
	case *annotations.HttpRule_Delete:
		return "DELETE", pattern.Delete
	default:
		t.Fatalf("the annotation %v has a verb that this test does not know", rule)
		return "", ""
	}
}

func TestOpenAPIProblems(t *testing.T) {
	doc := loadOpenAPI(t)
	described := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Responses.Default() != nil {
				t.Errorf("%s %s has a default response, which is gRPC's", method, path)
			}
			for status, response := range operation.Responses.Map() {
				if code, err := strconv.Atoi(status); err != nil || code < 400 {
					continue
				}
				described[status] = true
				content := response.Value.Content["application/problem+json"]
				if content == nil || content.Schema.Ref != "#/components/schemas/Problem" {
					t.Errorf("%s %s: %s is not a problem", method, path, status)
				}
				if after := response.Value.Headers["Retry-After"]; (status == "429" || status == "503") && after == nil {
					t.Errorf("%s %s: %s does not say when to try again", method, path, status)
				}
			}
		}
	}
	for _, status := range []string{"400", "401", "403", "404", "410", "412", "413", "422", "429", "503", "504"} {
		if !described[status] {
			t.Errorf("no route describes %s", status)
		}
		if doc.Paths.Value("/v1/streams/{stream_id}/events").Post.Responses.Value(status) == nil {
			t.Errorf("append does not describe %s", status)
		}
	}
	sameFields(t, doc, "Problem", (&apiv1.Problem{}).ProtoReflect().Descriptor(), nil, nil)
}

func TestOpenAPIBodiesAreTheMessagesInJSON(t *testing.T) {
	doc := loadOpenAPI(t)
	sameFields(t, doc, "Event", (&apiv1.Event{}).ProtoReflect().Descriptor(),
		[]string{"data_base64", "created_at"}, []string{"binary"})
	sameFields(t, doc, "ProposedEvent", (&apiv1.ProposedEvent{}).ProtoReflect().Descriptor(),
		[]string{"data_base64"}, []string{"binary"})
	sameFields(t, doc, "AppendRequest", (&apiv1.AppendRequest{}).ProtoReflect().Descriptor(),
		nil, []string{"stream_id"})
	sameFields(t, doc, "AppendResponse", (&apiv1.AppendResponse{}).ProtoReflect().Descriptor(), nil, nil)
	sameFields(t, doc, "ReadStreamResponse", (&apiv1.ReadStreamResponse{}).ProtoReflect().Descriptor(), nil, nil)
	sameFields(t, doc, "GetSystemResponse", (&apiv1.GetSystemResponse{}).ProtoReflect().Descriptor(), nil, nil)
	for name, schema := range doc.Components.Schemas {
		for field, property := range schema.Value.Properties {
			if property.Value.Format == "int64" && !property.Value.Type.Is("integer") {
				t.Errorf("%s.%s is %v, want a JSON number", name, field, property.Value.Type)
			}
		}
	}
	if data := doc.Components.Schemas["Event"].Value.Properties["data"].Value; data.Type != nil {
		t.Errorf("data is %v, want any JSON value", data.Type)
	}
	for _, body := range []string{`41`, `"text"`, `[1,{"b":2}]`, `{"a":9007199254740993}`, `null`} {
		request := `{"expected_version":-1,"events":[{"event_type":"t","data":` + body + `,"metadata":{"user":"ada"}}]}`
		if err := accepts(doc, "AppendRequest", request); err != nil {
			t.Errorf("refuses data %s: %v", body, err)
		}
	}
	for _, request := range []string{
		`{"expected_version":"-1","events":[{"event_type":"t","data":1}]}`,
		`{"events":[]}`,
		`{"events":[{"data":{}}]}`,
		`{"events":[{"event_type":"t"}]}`,
		`{"events":[{"event_type":"t","data":1,"data_base64":"AA=="}]}`,
		`{"events":[{"event_type":"t","data":1,"binary":true}]}`,
		`{"events":[{"event_type":"t","data":1,"metadata":"text"}]}`,
	} {
		if err := accepts(doc, "AppendRequest", request); err == nil {
			t.Errorf("accepts %s", request)
		}
	}
}

func TestOpenAPIHeaders(t *testing.T) {
	doc := loadOpenAPI(t)
	for _, want := range []struct {
		method, path string
		headers      []string
	}{
		{"POST", "/v1/streams/{stream_id}/events", []string{"Idempotency-Key", "If-Match", "If-None-Match"}},
		{"DELETE", "/v1/streams/{stream_id}", []string{"Idempotency-Key", "If-Match"}},
		{"GET", "/v1/subscribe", []string{"Last-Event-ID"}},
	} {
		operation := doc.Paths.Value(want.path).GetOperation(want.method)
		for _, name := range want.headers {
			if operation.Parameters.GetByInAndName("header", name) == nil {
				t.Errorf("%s %s does not know the header %s", want.method, want.path, name)
			}
		}
		if operation.Parameters.GetByInAndName("query", "idempotency_key") != nil {
			t.Errorf("%s %s has idempotency_key twice", want.method, want.path)
		}
	}
	for _, method := range []string{"GET", "HEAD"} {
		success := doc.Paths.Value("/v1/streams/{stream_id}").GetOperation(method).Responses.Status(200)
		if success.Value.Headers["ETag"] == nil {
			t.Errorf("%s of a stream has no ETag", method)
		}
	}
	success := doc.Paths.Value("/v1/subscribe").Get.Responses.Status(200)
	for _, kind := range []string{"text/event-stream", "application/x-ndjson"} {
		if success.Value.Content[kind] == nil {
			t.Errorf("subscribe does not answer as %s", kind)
		}
	}
}

// sameFields compares the properties of a schema with the fields of a message,
// but for those that REST adds and those that only the message has.
func sameFields(t *testing.T, doc *openapi3.T, name string, message protoreflect.MessageDescriptor, added, dropped []string) {
	t.Helper()
	schema := doc.Components.Schemas[name]
	if schema == nil {
		t.Errorf("no schema %s", name)
		return
	}
	want := slices.Clone(added)
	for i := range message.Fields().Len() {
		if field := string(message.Fields().Get(i).Name()); !slices.Contains(dropped, field) {
			want = append(want, field)
		}
	}
	var got []string
	for field := range schema.Value.Properties {
		got = append(got, field)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s has %v, want %v", name, got, want)
	}
}

// accepts tells whether a JSON text fits a schema.
func accepts(doc *openapi3.T, schema, text string) error {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return err
	}
	return doc.Components.Schemas[schema].Value.VisitJSON(value)
}
