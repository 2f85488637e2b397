package core

import "encoding/base64"

// PageToken is the token that goes on after the stream with that id; empty when there are no more.
func PageToken(after string) string { return base64.RawURLEncoding.EncodeToString([]byte(after)) }

// ParsePageToken is the stream id of a PageToken; empty is the start.
func ParsePageToken(attempt, token string) (string, error) {
	after, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(after) > MaxStreamID {
		return "", Malformed("%s: page_token %s is not one that the server gave: use next_page_token unchanged", attempt, Quote(token))
	}
	return string(after), nil
}
