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

// openFor is open; a read may pass also when a system that was ready is not for now, as long as there are replicas
// that serve history: a full disk is no reason to hide what is there.
func (s *Service) openFor(read bool) error {
	if read && s.Gate.Readable() {
		return nil
	}
	return s.open()
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
