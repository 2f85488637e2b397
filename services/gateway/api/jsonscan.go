package api

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner walks JSON text (RFC 8259) in place. It hands out values as slices of
// the text, untouched, so that what a client sent can be given back byte for byte.
// Errors name the field and the offset in bytes.
type scanner struct {
	text []byte
	at   int
	path string // of the value that is scanned, such as events[3].data
}

// maxDepth bounds nesting, as encoding/json does.
const maxDepth = 10000

// syntaxError is text that is not what was wanted.
type syntaxError struct {
	path   string
	offset int
	what   string
}

func (e *syntaxError) Error() string {
	if e.path == "" {
		return fmt.Sprintf("body, at offset %d: %s", e.offset, e.what)
	}
	return fmt.Sprintf("field %s, at offset %d: %s", e.path, e.offset, e.what)
}

func (s *scanner) errorAt(offset int, format string, args ...any) error {
	return &syntaxError{s.path, offset, fmt.Sprintf(format, args...)}
}

// within runs f for a value at the path below the present one.
func (s *scanner) within(path string, f func() error) error {
	outer := s.path
	switch {
	case outer == "" || path[0] == '[':
		s.path = outer + path
	default:
		s.path = outer + "." + path
	}
	err := f()
	s.path = outer
	return err
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// peek is the next byte after white space, or 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.at == len(s.text) {
		return 0
	}
	return s.text[s.at]
}

// found describes what is there instead of what was wanted.
func (s *scanner) found() string {
	switch c := s.peek(); {
	case s.at == len(s.text):
		return "the end of the body"
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	default:
		r, _ := utf8.DecodeRune(s.text[s.at:])
		return strconv.QuoteRune(r)
	}
}

func (s *scanner) want(c byte, what string) error {
	if s.peek() != c {
		return s.errorAt(s.at, "want %s, found %s", what, s.found())
	}
	s.at++
	return nil
}

// object calls field for each member, with the scanner at its value.
func (s *scanner) object(field func(name string, offset int) error) error {
	if err := s.want('{', "an object"); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.at++
		return nil
	}
	for {
		s.space()
		offset := s.at
		if s.peek() != '"' {
			return s.errorAt(s.at, "want a field name in quotes, found %s", s.found())
		}
		name, err := s.str()
		if err != nil {
			return err
		}
		if err := s.want(':', "':' after the field name "+strconv.Quote(name)); err != nil {
			return err
		}
		if err := field(name, offset); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case '}':
			s.at++
			return nil
		default:
			return s.errorAt(s.at, "want ',' or '}' after a field, found %s", s.found())
		}
	}
}

// array calls element for each element, with the scanner at its value.
func (s *scanner) array(what string, element func(i int) error) error {
	if err := s.want('[', what); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.at++
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case ']':
			s.at++
			return nil
		default:
			return s.errorAt(s.at, "want ',' or ']' after an element, found %s", s.found())
		}
	}
}

// null takes a null, if it is there.
func (s *scanner) null() bool {
	if s.peek() == 'n' && len(s.text)-s.at >= 4 && string(s.text[s.at:s.at+4]) == "null" {
		s.at += 4
		return true
	}
	return false
}

// str takes a string and decodes it.
func (s *scanner) str() (string, error) {
	if s.peek() != '"' {
		return "", s.errorAt(s.at, "want a string, found %s", s.found())
	}
	start := s.at
	plain, err := s.skipString()
	if err != nil {
		return "", err
	}
	raw := s.text[start+1 : s.at-1]
	if plain {
		return string(raw), nil
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		switch c := raw[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				if len(raw) < i+7 || raw[i+1] != '\\' || raw[i+2] != 'u' {
					return "", s.errorAt(start+i-4, "half of a surrogate pair (\\u%04x)", r)
				}
				pair := utf16.DecodeRune(r, hex4(raw[i+3:]))
				if pair == utf8.RuneError {
					return "", s.errorAt(start+i-4, "half of a surrogate pair (\\u%04x)", r)
				}
				r = pair
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default: // one of " \ /
			out = append(out, c)
		}
	}
	return string(out), nil
}

// hex4 is the value of four hexadecimal digits, which skipString has checked.
func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}

// skipString passes a string; plain tells that it has no escapes.
func (s *scanner) skipString() (plain bool, err error) {
	plain = true
	start := s.at
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return plain, nil
		case c < 0x20:
			return false, s.errorAt(s.at, "control character %#02x in a string: write it as \\u%04x", c, c)
		case c == '\\':
			plain = false
			s.at++
			if s.at == len(s.text) {
				break
			}
			switch s.text[s.at] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					s.at++
					if s.at == len(s.text) || !isHex(s.text[s.at]) {
						return false, s.errorAt(s.at, "want four hexadecimal digits after \\u")
					}
				}
			default:
				return false, s.errorAt(s.at, "unknown escape after a backslash")
			}
		}
	}
	return false, s.errorAt(start, "the string does not end")
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// integer takes a whole number of 64 bits.
func (s *scanner) integer() (int64, error) {
	c := s.peek()
	if c != '-' && (c < '0' || c > '9') {
		return 0, s.errorAt(s.at, "want a whole number, found %s", s.found())
	}
	start := s.at
	if err := s.skipNumber(); err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(string(s.text[start:s.at]), 10, 64)
	if err != nil {
		return 0, s.errorAt(start, "want a whole number of 64 bits, found %s", shorten(string(s.text[start:s.at])))
	}
	return v, nil
}

// raw takes any value and returns its bytes as they are.
func (s *scanner) raw() ([]byte, error) {
	s.space()
	start := s.at
	if err := s.skip(0); err != nil {
		return nil, err
	}
	return s.text[start:s.at:s.at], nil
}

// skip passes any value.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.errorAt(s.at, "nested deeper than %d", maxDepth)
	}
	switch c := s.peek(); {
	case c == '{':
		return s.skipObject(depth)
	case c == '[':
		return s.skipArray(depth)
	case c == '"':
		_, err := s.skipString()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.skipNumber()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	default:
		return s.errorAt(s.at, "want a value, found %s", s.found())
	}
}

func (s *scanner) skipObject(depth int) error {
	s.at++
	if s.peek() == '}' {
		s.at++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.errorAt(s.at, "want a field name in quotes, found %s", s.found())
		}
		if _, err := s.skipString(); err != nil {
			return err
		}
		if err := s.want(':', "':' after a field name"); err != nil {
			return err
		}
		if err := s.skip(depth + 1); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case '}':
			s.at++
			return nil
		default:
			return s.errorAt(s.at, "want ',' or '}' after a field, found %s", s.found())
		}
	}
}

func (s *scanner) skipArray(depth int) error {
	s.at++
	if s.peek() == ']' {
		s.at++
		return nil
	}
	for {
		if err := s.skip(depth + 1); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case ']':
			s.at++
			return nil
		default:
			return s.errorAt(s.at, "want ',' or ']' after an element, found %s", s.found())
		}
	}
}

func (s *scanner) literal(word string) error {
	if len(s.text)-s.at < len(word) || string(s.text[s.at:s.at+len(word)]) != word {
		return s.errorAt(s.at, "want %s", word)
	}
	s.at += len(word)
	return nil
}

func (s *scanner) skipNumber() error {
	start := s.at
	if s.text[s.at] == '-' {
		s.at++
	}
	switch {
	case s.at < len(s.text) && s.text[s.at] == '0':
		s.at++
	case !s.digits():
		return s.errorAt(start, "a number without digits")
	}
	if s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		if !s.digits() {
			return s.errorAt(start, "a number without digits after the point")
		}
	}
	if s.at < len(s.text) && s.text[s.at]|0x20 == 'e' {
		s.at++
		if s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		if !s.digits() {
			return s.errorAt(start, "a number without digits in its exponent")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// end wants nothing but white space.
func (s *scanner) end() error {
	if s.peek(); s.at < len(s.text) {
		return s.errorAt(s.at, "want the end of the body, found %s", s.found())
	}
	return nil
}

// shorten cuts a text that is shown in an error.
func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
