// Package docs writes what the contracts say in words and in the formats that
// other tools read: the event catalogue, the AsyncAPI document and the OpenAPI
// document. Its only sources are the registry, the .proto files and the swagger
// that buf generates, so that none of the three can say something else than
// the code. The same sources give the same bytes.
package docs

import (
	"fmt"
	"io/fs"
)

// Paths of the generated documents, relative to the contracts module.
const (
	CataloguePath = "CATALOGUE.md"
	AsyncAPIPath  = "asyncapi.yaml"
	OpenAPIPath   = "openapi/exesdb.openapi.json"
)

// File is one generated document.
type File struct {
	// Path relative to the contracts module, with slashes.
	Path    string
	Content []byte
}

// Generate writes all documents in memory. The module is the contracts module's
// folder; it fails when a .proto file or the swagger cannot be read.
func Generate(module fs.FS) ([]File, error) {
	schema, err := LoadSchema(module)
	if err != nil {
		return nil, err
	}
	catalogue, err := Catalogue(schema)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", CataloguePath, err)
	}
	asyncAPI, err := AsyncAPI(schema)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", AsyncAPIPath, err)
	}
	openAPI, err := OpenAPI(module)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", OpenAPIPath, err)
	}
	return []File{
		{CataloguePath, catalogue},
		{AsyncAPIPath, asyncAPI},
		{OpenAPIPath, openAPI},
	}, nil
}
