package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"github.com/exesdb/exesdb/services/gateway/core"
)

// open is nil while the system is ready; else the problem that says what is missing.
func (s *Service) open() error {
	if ok, missing := s.Gate.Ready(); !ok {
		return core.NotReady(missing)
	}
	return nil
}

// authorize checks the Authorization header (or metadata) against the token.
func (s *Service) authorize(header string) error {
	if s.Token == "" {
		return nil
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return core.Unauthenticated()
	}
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(s.Token))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return core.Forbidden()
	}
	return nil
}
