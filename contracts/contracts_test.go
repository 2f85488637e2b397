package contracts_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/exesdb/exesdb/contracts"
)

func TestDocumentsAreEmbedded(t *testing.T) {
	if !json.Valid(contracts.OpenAPI) || !strings.Contains(string(contracts.OpenAPI), `"openapi": "3.`) {
		t.Error("OpenAPI is not an OpenAPI 3 document")
	}
	if !strings.Contains(string(contracts.AsyncAPI), "\nasyncapi: 3.0.0\n") {
		t.Error("AsyncAPI is not an AsyncAPI 3.0 document")
	}
	if !strings.Contains(contracts.Catalogue, "\n# The event catalogue\n") {
		t.Error("Catalogue is not the event catalogue")
	}
	if !strings.HasPrefix(contracts.Decisions, "# ") {
		t.Error("Decisions is not the document of decisions")
	}
}
