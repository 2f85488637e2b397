package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

// SwaggerPath is what buf generates from api.proto, relative to the contracts
// module: an intermediate, for it says what grpc-gateway would speak by itself.
const SwaggerPath = "gen/swagger/exesdb.swagger.json"

// OpenAPI is the OpenAPI 3.0 document of the REST API: the routes and messages
// of api.proto with the bodies, headers and errors that the gateway really has.
func OpenAPI(module fs.FS) ([]byte, error) {
	doc, err := fromSwagger(module)
	if err != nil {
		return nil, err
	}
	doc.Info = &openapi3.Info{
		Title:   "ExESDB",
		Version: "1.0.0",
		Description: "An event store over Kafka. `data` is any JSON value and comes back byte for byte; binary data is " +
			"`data_base64`. Versions are JSON numbers. Errors are problem documents that say what to do. " +
			"Generated from contracts/proto by contracts/cmd/docs.",
	}
	doc.Servers = openapi3.Servers{{URL: "http://127.0.0.1:8080", Description: "The default address (EXESDB_HTTP_ADDR)."}}
	if err := useJSONNumbers(doc); err != nil {
		return nil, err
	}
	if err := useJSONBodies(doc.Components.Schemas); err != nil {
		return nil, err
	}
	addProblems(doc.Components)
	doc.Components.SecuritySchemes = openapi3.SecuritySchemes{"token": {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer").
		WithDescription("Asked for when the gateway was started with EXESDB_TOKEN.")}}
	doc.Security = openapi3.SecurityRequirements{{"token": []string{}}, {}}
	for _, route := range routes {
		if err := route.describe(doc); err != nil {
			return nil, fmt.Errorf("describe %s %s: %w", route.method, route.path, err)
		}
	}
	if err := addHead(doc); err != nil {
		return nil, err
	}
	written, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode the OpenAPI document: %w", err)
	}
	if err := Validate(written); err != nil {
		return nil, err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, written, "", "  "); err != nil {
		return nil, fmt.Errorf("indent the OpenAPI document: %w", err)
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

// Validate tells whether a document is valid OpenAPI, its examples included.
func Validate(document []byte) error {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return fmt.Errorf("load the OpenAPI document: %w", err)
	}
	if err := doc.Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
		return fmt.Errorf("validate the OpenAPI document: %w", err)
	}
	return nil
}

// fromSwagger converts the swagger to OpenAPI 3.0 and gives the messages their own names.
func fromSwagger(module fs.FS) (*openapi3.T, error) {
	written, err := fs.ReadFile(module, SwaggerPath)
	if err != nil {
		return nil, fmt.Errorf("read the swagger (run buf generate): %w", err)
	}
	// The generator prefixes messages with their package's version.
	written = bytes.ReplaceAll(written, []byte(`"#/definitions/v1`), []byte(`"#/definitions/`))
	written = bytes.ReplaceAll(written, []byte(`"#/definitions/EventStoreAppendBody"`), []byte(`"#/definitions/AppendRequest"`))
	var swagger openapi2.T
	if err := json.Unmarshal(written, &swagger); err != nil {
		return nil, fmt.Errorf("decode %s: %w", SwaggerPath, err)
	}
	renamed := make(map[string]*openapi2.SchemaRef, len(swagger.Definitions))
	for name, schema := range swagger.Definitions {
		if name == "EventStoreAppendBody" {
			name = "AppendRequest"
		}
		renamed[strings.TrimPrefix(name, "v1")] = schema
	}
	swagger.Definitions = renamed
	doc, err := openapi2conv.ToV3(&swagger)
	if err != nil {
		return nil, fmt.Errorf("convert %s to OpenAPI 3: %w", SwaggerPath, err)
	}
	if doc.Components == nil {
		return nil, fmt.Errorf("convert %s to OpenAPI 3: no messages", SwaggerPath)
	}
	// gRPC's own error bodies; REST has problems.
	delete(doc.Components.Schemas, "rpcStatus")
	delete(doc.Components.Schemas, "protobufAny")
	return doc, nil
}

// useJSONNumbers makes 64-bit integers JSON numbers; protobuf's JSON has strings.
func useJSONNumbers(doc *openapi3.T) error {
	err := doc.WalkSchemas(func(_ string, schema *openapi3.SchemaRef) error {
		if s := schema.Value; s.Type.Is("string") && (s.Format == "int64" || s.Format == "uint64") {
			s.Type, s.Format = &openapi3.Types{"integer"}, "int64"
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("make integers JSON numbers: %w", err)
	}
	return nil
}
