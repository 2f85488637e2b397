package docs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/exesdb/exesdb/contracts/internal/docs"
	"github.com/exesdb/exesdb/contracts/registry"
)

// reference to another part of the document.
type reference struct {
	Ref string `yaml:"$ref"`
}

// asyncAPI is what AsyncAPI 3.0 requires and the registry knows.
type asyncAPI struct {
	AsyncAPI           string `yaml:"asyncapi"`
	ID                 string `yaml:"id"`
	Info               struct{ Title, Version, Description string }
	DefaultContentType string `yaml:"defaultContentType"`
	Servers            map[string]struct {
		Host, Protocol, Description string
		Variables                   map[string]struct{ Default, Description string }
	}
	Channels map[string]struct {
		Address, Title, Summary string
		Servers                 []reference
		Parameters, Messages    map[string]reference
		Bindings                struct {
			Kafka struct {
				Partitions         int32
				TopicConfiguration struct {
					Policy    []string `yaml:"cleanup.policy"`
					Retention *int64   `yaml:"retention.ms"`
					Bytes     *int64   `yaml:"retention.bytes"`
					Deleted   *int64   `yaml:"delete.retention.ms"`
					Largest   int64    `yaml:"max.message.bytes"`
				} `yaml:"topicConfiguration"`
				BindingVersion string `yaml:"bindingVersion"`
			}
		}
		Exesdb struct {
			Scenario                   int
			Key, Partitions, Retention string
			Policies                   []string
		} `yaml:"x-exesdb"`
	}
	Operations map[string]struct {
		Action   string
		Channel  reference
		Messages []reference
		Tags     []struct{ Name string }
		Exesdb   struct{ Policies []string } `yaml:"x-exesdb"`
	}
	Components struct {
		Parameters map[string]struct{ Description string }
		Schemas    map[string]struct {
			Type, Description string
			Properties        map[string]struct{ Type, Description, Const string }
			Required          []string
		}
		Messages map[string]struct {
			Name, Title, Summary string
			ContentType          string `yaml:"contentType"`
			Headers              reference
			Payload              struct {
				SchemaFormat string `yaml:"schemaFormat"`
				Schema       reference
			}
			Bindings struct {
				Kafka struct {
					Key            struct{ Type, Description string }
					BindingVersion string `yaml:"bindingVersion"`
				}
			}
			Message string `yaml:"x-protobuf-message"`
		}
	}
}

func loadAsyncAPI(t *testing.T) (asyncAPI, map[string]any) {
	t.Helper()
	written := generate(t)[docs.AsyncAPIPath]
	var document asyncAPI
	decoder := yaml.NewDecoder(strings.NewReader(string(written)))
	// A key that AsyncAPI does not have there is an error.
	decoder.KnownFields(true)
	if err := decoder.Decode(&document); err != nil {
		t.Fatalf("read asyncapi.yaml: %v", err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(written, &tree); err != nil {
		t.Fatal(err)
	}
	return document, tree
}

func TestAsyncAPIHasWhatTheFormatRequires(t *testing.T) {
	document, tree := loadAsyncAPI(t)
	if document.AsyncAPI != "3.0.0" || document.Info.Title == "" || document.Info.Version == "" {
		t.Errorf("asyncapi %q, info %+v", document.AsyncAPI, document.Info)
	}
	for name, server := range document.Servers {
		if server.Host == "" || server.Protocol != "kafka" {
			t.Errorf("server %s: host %q, protocol %q", name, server.Host, server.Protocol)
		}
	}
	if len(document.Servers) != 1 {
		t.Errorf("%d servers, want 1", len(document.Servers))
	}
	checkReferences(t, tree, tree)
}

// checkReferences follows every $ref inside the document, and to the .proto files.
func checkReferences(t *testing.T, root map[string]any, node any) {
	t.Helper()
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			target, isText := value.(string)
			if key != "$ref" || !isText {
				checkReferences(t, root, value)
				continue
			}
			path, inside := strings.CutPrefix(target, "#/")
			if !inside {
				if _, err := os.Stat(filepath.Join(module, target)); err != nil {
					t.Errorf("reference %s: %v", target, err)
				}
				continue
			}
			var at any = root
			for part := range strings.SplitSeq(path, "/") {
				next, _ := at.(map[string]any)
				at = next[part]
			}
			if at == nil {
				t.Errorf("reference %s leads nowhere", target)
			}
		}
	case []any:
		for _, value := range node {
			checkReferences(t, root, value)
		}
	}
}

func TestAsyncAPIChannelsAreTheRegistry(t *testing.T) {
	document, _ := loadAsyncAPI(t)
	for name := range document.Channels {
		if _, ok := registry.ByName(name); !ok {
			t.Errorf("channel %s is no event", name)
		}
	}
	for _, e := range registry.Events() {
		channel, ok := document.Channels[e.Name]
		if !ok {
			t.Errorf("event %s has no channel", e.Name)
			continue
		}
		if channel.Address != "{store_id}."+e.Name {
			t.Errorf("%s: address %s", e.Name, channel.Address)
		}
		if _, ok := channel.Parameters["store_id"]; !ok || len(channel.Parameters) != 1 {
			t.Errorf("%s: parameters %v, want those of the address", e.Name, channel.Parameters)
		}
		kafka := channel.Bindings.Kafka
		configs := registry.TopicConfigs(e)
		if !slices.Equal(kafka.TopicConfiguration.Policy, []string{configs["cleanup.policy"]}) {
			t.Errorf("%s: cleanup.policy %v, want %s", e.Name, kafka.TopicConfiguration.Policy, configs["cleanup.policy"])
		}
		switch kept := kafka.TopicConfiguration.Retention; {
		case e.Retention.Compacted() && kept != nil:
			t.Errorf("%s is compacted and has retention.ms %d", e.Name, *kept)
		case e.Retention == registry.RetainLog && (kept == nil || *kept != -1):
			t.Errorf("%s is the log and is not kept for ever", e.Name)
		case e.Retention.Duration() > 0 && (kept == nil || *kept != e.Retention.Duration().Milliseconds()):
			t.Errorf("%s: retention.ms %v, want %d", e.Name, kept, e.Retention.Duration().Milliseconds())
		}
		if kafka.Partitions != 1 || (channel.Exesdb.Partitions == "one per shard") != e.Sharded() {
			t.Errorf("%s: %d partitions, %q", e.Name, kafka.Partitions, channel.Exesdb.Partitions)
		}
		if channel.Exesdb.Key != string(e.Key) || channel.Exesdb.Scenario != e.Scenario || channel.Exesdb.Retention != string(e.Retention) {
			t.Errorf("%s: x-exesdb is %+v", e.Name, channel.Exesdb)
		}
		if len(channel.Exesdb.Policies) != len(e.Policies()) {
			t.Errorf("%s: policies %v", e.Name, channel.Exesdb.Policies)
		}
	}
}

func TestAsyncAPIMessagesAreTheProtos(t *testing.T) {
	document, _ := loadAsyncAPI(t)
	if len(document.Components.Messages) != len(registry.Events()) {
		t.Errorf("%d messages, want %d", len(document.Components.Messages), len(registry.Events()))
	}
	for _, e := range registry.Events() {
		message := document.Components.Messages[e.Name]
		descriptor := e.Message().ProtoReflect().Descriptor()
		if message.Message != string(descriptor.FullName()) {
			t.Errorf("%s: message %s, want %s", e.Name, message.Message, descriptor.FullName())
		}
		if message.Payload.Schema.Ref != "./proto/"+descriptor.ParentFile().Path() {
			t.Errorf("%s: schema %s, want the file of %s", e.Name, message.Payload.Schema.Ref, descriptor.FullName())
		}
		if message.Payload.SchemaFormat != "application/vnd.google.protobuf;version=3" || message.Bindings.Kafka.Key.Type != "string" {
			t.Errorf("%s: payload %+v, key %+v", e.Name, message.Payload, message.Bindings.Kafka.Key)
		}
	}
	headers := document.Components.Schemas["headers"]
	for _, h := range registry.Headers() {
		property, ok := headers.Properties[h.Name]
		if !ok || property.Const != h.Value || slices.Contains(headers.Required, h.Name) != h.Required {
			t.Errorf("header %s: %+v, required %t", h.Name, property, slices.Contains(headers.Required, h.Name))
		}
	}
	for _, name := range []string{"ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type", "traceparent"} {
		if _, ok := headers.Properties[name]; !ok {
			t.Errorf("the header %s of the design is missing", name)
		}
	}
}

func TestAsyncAPIOperationsAreProducersAndConsumers(t *testing.T) {
	document, _ := loadAsyncAPI(t)
	want := 0
	expect := func(system registry.System, action, event string) {
		want++
		operation, ok := document.Operations[string(system)+"_"+action+"_"+event]
		if !ok {
			t.Errorf("%s does not %s %s", system, action, event)
			return
		}
		if operation.Action != action || operation.Channel.Ref != "#/channels/"+event ||
			len(operation.Messages) != 1 || len(operation.Tags) != 1 || operation.Tags[0].Name != string(system) {
			t.Errorf("%s %s %s is %+v", system, action, event, operation)
		}
	}
	for _, e := range registry.Events() {
		for _, system := range e.Producers {
			expect(system, "send", e.Name)
		}
		for _, system := range e.Consumers {
			expect(system, "receive", e.Name)
		}
	}
	if len(document.Operations) != want {
		t.Errorf("%d operations, want %d", len(document.Operations), want)
	}
	for _, p := range registry.Policies() {
		for _, system := range p.Systems {
			for _, on := range p.On {
				if !slices.Contains(document.Operations[string(system)+"_receive_"+on].Exesdb.Policies, p.Name) {
					t.Errorf("%s does not name %s where it receives %s", system, p.Name, on)
				}
			}
		}
	}
}
