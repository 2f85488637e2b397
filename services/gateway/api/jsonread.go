package api

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"unicode/utf8"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// decodeAppend reads the body of an append. Data and metadata are slices of the
// body, byte for byte. Unknown and repeated fields, wrong types, trailing text and
// bad UTF-8 are errors; null is as if the field were absent, except for data.
func decodeAppend(body []byte, req *apiv1.AppendRequest) error {
	if !utf8.Valid(body) {
		return &syntaxError{"", invalidUTF8(body), "bad UTF-8: JSON is UTF-8"}
	}
	s := &scanner{text: body}
	err := s.fields([]string{"expected_version", "events", "idempotency_key"}, func(name string) (err error) {
		switch name {
		case "expected_version":
			if !s.null() {
				var v int64
				v, err = s.integer()
				req.ExpectedVersion = &v
			}
		case "idempotency_key":
			req.IdempotencyKey, err = s.optional()
		case "events":
			return s.array("an array of events", func(i int) error {
				return s.within("["+strconv.Itoa(i)+"]", func() error {
					e := &apiv1.ProposedEvent{}
					req.Events = append(req.Events, e)
					return decodeEvent(s, e)
				})
			})
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.end()
}

func decodeEvent(s *scanner, e *apiv1.ProposedEvent) error {
	text := false
	return s.fields([]string{"event_id", "event_type", "data", "data_base64", "metadata", "tags"}, func(name string) (err error) {
		switch name {
		case "event_id":
			e.EventId, err = s.optional()
		case "event_type":
			e.EventType, err = s.str()
		case "data":
			if e.GetBinary() {
				return s.errorAt(s.at, "data_base64 is there too: want one of them")
			}
			text = true
			e.Data, err = s.raw()
		case "data_base64":
			if s.null() {
				return nil
			}
			if text {
				return s.errorAt(s.at, "data is there too: want one of them")
			}
			e.Binary = true
			e.Data, err = s.base64()
		case "metadata":
			if s.null() {
				return nil
			}
			if s.peek() != '{' {
				return s.errorAt(s.at, "want an object, found %s", s.found())
			}
			e.Metadata, err = s.raw()
		case "tags":
			if s.null() {
				return nil
			}
			return s.array("an array of strings", func(i int) error {
				return s.within("["+strconv.Itoa(i)+"]", func() error {
					tag, err := s.str()
					e.Tags = append(e.Tags, tag)
					return err
				})
			})
		}
		return err
	})
}

// fields takes an object with these fields only, each at most once.
func (s *scanner) fields(known []string, field func(name string) error) error {
	seen := 0
	return s.object(func(name string, offset int) error {
		place := -1
		for i, k := range known {
			if k == name {
				place = i
			}
		}
		if place < 0 {
			return s.errorAt(offset, "unknown field %s: want %s", strconv.Quote(shorten(name)), list(known))
		}
		if seen&(1<<place) != 0 {
			return s.errorAt(offset, "field %q occurs twice", name)
		}
		seen |= 1 << place
		return s.within(name, func() error {
			s.space()
			return field(name)
		})
	})
}

func list(words []string) string {
	out := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			out += " or "
		default:
			out += ", "
		}
		out += w
	}
	return out
}

// optional takes a string, or null for an empty one.
func (s *scanner) optional() (string, error) {
	if s.null() {
		return "", nil
	}
	return s.str()
}

// base64 takes a string of standard base64 with padding.
func (s *scanner) base64() ([]byte, error) {
	start := s.at
	text, err := s.str()
	if err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, s.errorAt(start, "not standard base64 with padding: %v", err)
	}
	return data, nil
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// typeError is a message that the JSON codec does not read or write.
func typeError(verb string, v any) error {
	return fmt.Errorf("%s %T as JSON: not a body of this API", verb, v)
}
