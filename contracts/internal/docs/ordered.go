package docs

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// object is a YAML mapping that keeps the order in which it was written.
type object []member

// member of an object.
type member struct {
	key   string
	value any
}

// MarshalYAML writes the members in their order.
func (o object) MarshalYAML() (any, error) {
	node := &yaml.Node{Kind: yaml.MappingNode}
	for _, m := range o {
		var value yaml.Node
		if err := value.Encode(m.value); err != nil {
			return nil, fmt.Errorf("encode %s: %w", m.key, err)
		}
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: m.key}, &value)
	}
	return node, nil
}

// ref is a reference to another part of the document.
func ref(to string) object { return object{{"$ref", to}} }

// encodeYAML writes a document with two spaces per level.
func encodeYAML(document object) ([]byte, error) {
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(document); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return b.Bytes(), nil
}
