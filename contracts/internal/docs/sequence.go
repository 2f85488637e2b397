package docs

import (
	"fmt"
	"strings"

	"github.com/exesdb/exesdb/contracts/registry"
)

// Sequence is the mermaid sequence diagram of a scenario: its events in causal
// order, each published to its topic and from there to those that listen, with
// the policies that it triggers. The bus is a participant because the systems
// never speak to each other directly.
func Sequence(s registry.Scenario) string {
	events := s.Events()
	var b strings.Builder
	b.WriteString("sequenceDiagram\n    autonumber\n")
	takesPart := make(map[registry.System]bool)
	for _, e := range events {
		for _, system := range append(append([]registry.System(nil), e.Producers...), e.Consumers...) {
			takesPart[system] = true
		}
	}
	// Along the write path, with the bus in the middle.
	for _, system := range []registry.System{registry.Gateway, registry.Store, registry.Persistence} {
		if takesPart[system] {
			fmt.Fprintf(&b, "    participant %s\n", system)
		}
	}
	b.WriteString("    participant kafka as Kafka\n")
	for _, system := range []registry.System{registry.Notification, registry.Cluster, registry.ControlPlane} {
		if takesPart[system] {
			fmt.Fprintf(&b, "    participant %s\n", system)
		}
	}
	for _, e := range events {
		for _, producer := range e.Producers {
			fmt.Fprintf(&b, "    %s->>kafka: %s\n", producer, e.Name)
		}
		for _, consumer := range e.Consumers {
			fmt.Fprintf(&b, "    kafka-->>%s: %s\n", consumer, e.Name)
		}
		for _, policy := range e.Policies() {
			for _, system := range policy.Systems {
				fmt.Fprintf(&b, "    Note over %s: %s\n", system, policy.Name)
			}
		}
	}
	return b.String()
}
