package registry

// Header is one Kafka header of a record: CloudEvents 1.0 in Kafka binary mode,
// whose attributes carry the envelope that every event has.
type Header struct {
	Name string
	// Doc is one sentence.
	Doc string
	// Required tells whether every record carries it.
	Required bool
	// Value is the constant value; empty when it varies.
	Value string
}

// headers of every record. CloudEvents allows only lower-case letters and digits in the names of attributes.
var headers = []Header{
	{Name: "ce_specversion", Doc: "Version of CloudEvents.", Required: true, Value: "1.0"},
	{Name: "ce_id", Doc: "Identity of the event; a second copy has the same one. It is node-incarnation-sequence, both numbers in base 36.", Required: true},
	{Name: "ce_source", Doc: "The instance that published it, as a URI reference: /exesdb/store/node.", Required: true},
	{Name: "ce_type", Doc: "The event's name in the catalogue.", Required: true},
	{Name: "ce_time", Doc: "When it was published (RFC 3339).", Required: true},
	{Name: "ce_subject", Doc: "What it is about: the record's key in words, such as the stream id."},
	{Name: "content-type", Doc: "Encoding of the value.", Required: true, Value: ContentType},
	{Name: "traceparent", Doc: "W3C trace context of the request that caused it."},
	{Name: "ce_storeid", Doc: "The store. On unsharded topics; elsewhere ce_source tells it."},
	{Name: "ce_node", Doc: "Instance id of the sender, such as store-0. On unsharded topics; elsewhere ce_source tells it."},
	{Name: "ce_incarnation", Doc: "Grows with every start of the sender; decimal. On unsharded topics; elsewhere ce_id tells it."},
	{Name: "ce_sequence", Doc: "Grows with every event of an incarnation; decimal. On unsharded topics; elsewhere ce_id tells it."},
	{Name: "ce_correlationid", Doc: "Shared by all events that come from one request."},
	{Name: "ce_causationid", Doc: "ce_id of the event that caused this one."},
}

// ContentType of every record's value.
const ContentType = "application/protobuf"

// Headers lists the headers of every record.
func Headers() []Header { return append([]Header(nil), headers...) }
