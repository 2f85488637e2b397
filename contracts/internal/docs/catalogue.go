package docs

import (
	"bytes"
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/exesdb/exesdb/contracts/registry"
)

// Catalogue is the event catalogue in Markdown: per scenario a sequence diagram
// and its events, then the policies, the headers and the shared messages.
func Catalogue(schema *Schema) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`<!-- Generated from contracts/registry and contracts/proto by contracts/cmd/docs. Do not edit: run "go generate ./..." in contracts. -->

# The event catalogue

Every event of ExESDB: who publishes it, who listens, where it travels, how long it is kept and what
it carries. The topic of an event is ` + "`<store_id>.<event_name>`" + `; its value is the protobuf message of the
event's camel-case name in ` + "`exesdb.events.v1`" + `; its headers are [below](#headers). Names and fields are
those of the event storming; moments are milliseconds since the Unix epoch and end in ` + "`_ms`" + `.

| scenario | events |
|---|---|
`)
	for _, scenario := range registry.Scenarios() {
		names := make([]string, 0, len(scenario.Events()))
		for _, e := range scenario.Events() {
			names = append(names, link(e.Name, e.Name))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", link(scenarioHeading(scenario), scenarioHeading(scenario)), strings.Join(names, ", "))
	}
	b.WriteString(`
| kept | for |
|---|---|
| log | ever |
| fact | 7 days |
| signal | 1 day |
| hour | 1 hour |
| state | compacted: the newest record of each key, for ever |
`)
	for _, scenario := range registry.Scenarios() {
		fmt.Fprintf(&b, "\n## %s\n", scenarioHeading(scenario))
		if scenario.Number > 0 {
			fmt.Fprintf(&b, "\n```mermaid\n%s```\n", Sequence(scenario))
		}
		for _, e := range scenario.Events() {
			message, err := schema.Message(e)
			if err != nil {
				return nil, err
			}
			writeEvent(&b, e, message)
		}
	}
	writePolicies(&b)
	writeHeaders(&b)
	b.WriteString("\n## Shared messages\n\nParts of several events.\n")
	for _, message := range schema.Vocabulary() {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n", message.Name(), Comment(message))
		writeFields(&b, message)
	}
	b.WriteString("\n## Enums\n")
	for _, enum := range schema.Enums() {
		writeEnum(&b, enum)
	}
	return b.Bytes(), nil
}

// writeEvent describes one event.
func writeEvent(b *bytes.Buffer, e registry.Event, message protoreflect.MessageDescriptor) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n| | |\n|---|---|\n", e.Name, e.Doc)
	fmt.Fprintf(b, "| published by | %s |\n", systems(e.Producers))
	fmt.Fprintf(b, "| listened to by | %s |\n", systems(e.Consumers))
	fmt.Fprintf(b, "| topic | `%s` |\n", registry.Topic("<store_id>", e.Name))
	fmt.Fprintf(b, "| key | %s |\n", e.Key)
	fmt.Fprintf(b, "| partitions | %s |\n", partitions(e))
	fmt.Fprintf(b, "| kept | %s: %s |\n", e.Retention, retention(e.Retention))
	fmt.Fprintf(b, "| message | `%s` |\n", message.FullName())
	for _, policy := range e.Policies() {
		fmt.Fprintf(b, "| policy | when %s → %s: `%s` (%s) |\n", policy.When, policy.Then, policy.Name, systems(policy.Systems))
	}
	writeFields(b, message)
}

// writeFields lists the fields of a message in the order of its declaration.
func writeFields(b *bytes.Buffer, message protoreflect.MessageDescriptor) {
	if message.Fields().Len() == 0 {
		b.WriteString("\nNo fields.\n")
		return
	}
	b.WriteString("\n| # | field | type | |\n|---|---|---|---|\n")
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		fmt.Fprintf(b, "| %d | `%s` | %s | %s |\n", field.Number(), field.Name(), typeLink(field), cell(Comment(field)))
	}
}

// writeEnum lists the values of an enum.
func writeEnum(b *bytes.Buffer, enum protoreflect.EnumDescriptor) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n| # | value | |\n|---|---|---|\n", enumName(enum), Comment(enum))
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		fmt.Fprintf(b, "| %d | `%s` | %s |\n", value.Number(), value.Name(), cell(Comment(value)))
	}
}

// writePolicies lists the reactive policies.
func writePolicies(b *bytes.Buffer) {
	b.WriteString("\n## Policies\n\nOne handler each, in each system where the policy lives.\n\n| when | then | handler | where | hears | publishes |\n|---|---|---|---|---|---|\n")
	for _, p := range registry.Policies() {
		fmt.Fprintf(b, "| %s | %s | `%s` | %s | %s | %s |\n",
			p.When, p.Then, p.Name, systems(p.Systems), eventLinks(p.On), eventLinks(p.Publishes))
	}
}

// writeHeaders lists the headers of every record.
func writeHeaders(b *bytes.Buffer) {
	b.WriteString("\n## Headers\n\nRecords are CloudEvents 1.0 in Kafka binary mode: the attributes are headers.\n\n| header | on | value | |\n|---|---|---|---|\n")
	for _, h := range registry.Headers() {
		on, value := "every record", ""
		if !h.Required {
			on = "where known"
		}
		if h.Value != "" {
			value = "`" + h.Value + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", h.Name, on, value, cell(h.Doc))
	}
}

// scenarioHeading is the heading of a scenario's chapter.
func scenarioHeading(s registry.Scenario) string {
	if s.Number == 0 {
		return s.Title
	}
	return fmt.Sprintf("Scenario %d: %s", s.Number, s.Title)
}

// partitions in words.
func partitions(e registry.Event) string {
	if e.Sharded() {
		return "one per shard"
	}
	return "1"
}

// retention in words.
func retention(r registry.Retention) string {
	switch r {
	case registry.RetainLog:
		return "for ever"
	case registry.RetainState:
		return "compacted, the newest record of each key"
	case registry.RetainFact:
		return "7 days"
	case registry.RetainSignal:
		return "1 day"
	case registry.RetainHour:
		return "1 hour"
	default:
		return string(r)
	}
}

// systems in one line.
func systems(list []registry.System) string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// eventLinks are links to events, in one line.
func eventLinks(names []string) string {
	links := make([]string, len(names))
	for i, name := range names {
		links[i] = link(name, name)
	}
	return strings.Join(links, ", ")
}

// typeLink is the type of a field, linked where it has a heading of its own.
func typeLink(f protoreflect.FieldDescriptor) string {
	name := TypeName(f)
	switch {
	case f.IsMap():
		return "`" + name + "`"
	case f.Message() != nil:
		return link(name, string(f.Message().Name()))
	case f.Enum() != nil:
		return link(name, enumName(f.Enum()))
	default:
		return name
	}
}

// link to a heading of the catalogue, by GitHub's rules for anchors.
func link(text, heading string) string {
	anchor := strings.Map(func(r rune) rune {
		switch r {
		case ' ':
			return '-'
		case '.', ':', ',':
			return -1
		default:
			return r
		}
	}, strings.ToLower(heading))
	return fmt.Sprintf("[%s](#%s)", strings.ReplaceAll(text, "[]", `\[\]`), anchor)
}

// cell keeps a text inside one cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
