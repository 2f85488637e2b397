// Package observability shows that the flow of events can be followed from outside.
package observability

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestMetricsOfEventsAndWrites: each instance has /healthz and /metrics; writes are counted where
// they end, log records where they are applied, control events with their age, and one request's
// events share a correlation id.
func TestMetricsOfEventsAndWrites(t *testing.T) {
	s := harness.Apart(t, harness.Options{})
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	a, err := s.REST.Do(t.Context(), http.MethodPost, "/v1/streams/measured/events", []byte(`{"events":[{"event_type":"T","data":1}]}`), "traceparent", trace)
	if err != nil || a.Status/100 != 2 {
		t.Fatalf("%d %s %v", a.Status, a.Body, err)
	}
	expected := int64(9)
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "measured", Expected: &expected, Events: []harness.Event{{EventType: "T", Data: json.RawMessage("1")}}}); harness.Status(err) != 412 {
		t.Fatal(err)
	}
	for node, wanted := range map[string][]string{
		"gateway-0":      {`exesdb_gateway_writes_total{result="acknowledged"} 1`, `exesdb_gateway_writes_total{result="rejected"} 1`, "exesdb_gateway_waiting_writes 0", "exesdb_control_handled_total", "exesdb_control_age_seconds"},
		"persistence-0":  {"exesdb_persistence_outcomes_total", "exesdb_persistence_apply_seconds", "exesdb_persistence_applied_offset"},
		"store-0":        {"go_goroutines", "process_resident_memory_bytes"},
		"notification-0": {"go_goroutines"},
		"cluster-0":      {"exesdb_control_handled_total"},
		"controlplane-0": {"exesdb_control_handled_total"},
	} {
		harness.Eventually(t, 10*time.Second, node+" has its metrics", func() error {
			text, err := s.Admin(node, "/metrics")
			if err != nil {
				return err
			}
			for _, w := range wanted {
				if !strings.Contains(text, w) {
					return fmt.Errorf("%s is not there", w)
				}
			}
			return nil
		})
		if text, err := s.Admin(node, "/healthz"); err != nil || !strings.Contains(text, "ok") {
			t.Errorf("%s: /healthz: %q %v", node, text, err)
		}
	}
	for _, r := range s.Topics().Read(registry.StreamWriteRequested, 0) {
		if string(r.Key) == "measured" && r.Header(bus.HeaderTraceParent) != "" {
			if !strings.Contains(r.Header(bus.HeaderTraceParent), "0af7651916cd43dd8448eb211c80319c") {
				t.Errorf("the request has traceparent %q, want the client's trace", r.Header(bus.HeaderTraceParent))
			}
			return
		}
	}
	t.Error("the request in Kafka has no traceparent")
}
