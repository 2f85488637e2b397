// Package contracts carries the documents of ExESDB's contracts inside the
// program, so that a service can serve them and a tool can check itself against
// them. The registry of events is in the package registry, the messages in
// gen/go. All documents but DECISIONS.md are generated: see README.md.
package contracts

import _ "embed"

//go:generate go run ./cmd/docs

var (
	// OpenAPI is the OpenAPI 3.0 document of the REST API, as JSON.
	//go:embed openapi/exesdb.openapi.json
	OpenAPI []byte

	// AsyncAPI is the AsyncAPI 3.0 document of the events on Kafka, as YAML. Its
	// payloads refer to the .proto files by their paths in this module.
	//go:embed asyncapi.yaml
	AsyncAPI []byte

	// Catalogue is the event catalogue, as Markdown.
	//go:embed CATALOGUE.md
	Catalogue string

	// Decisions are the promises that answer the event storming's open questions, as
	// Markdown; the package decisions reads them.
	//go:embed DECISIONS.md
	Decisions string
)
