package core

import (
	"fmt"
	"strings"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// The stable types of problems: part of the public contract.
const (
	TypeMalformed       = "malformed-request"
	TypeUnauthenticated = "unauthenticated"
	TypeForbidden       = "forbidden"
	TypeNoSuchPath      = "no-such-path"
	TypeMethod          = "method-not-allowed"
	TypeNotAcceptable   = "not-acceptable"
	TypeStreamNotFound  = "stream-not-found"
	TypeTombstoned      = "stream-tombstoned"
	TypeWrongVersion    = "wrong-expected-version"
	TypeTooLarge        = "too-large"
	TypeKeyReused       = "idempotency-key-reused"
	TypeEventIDExists   = "event-id-exists"
	TypeBusy            = "too-many-requests"
	TypeNotReady        = "not-ready"
	TypeNoQuorum        = "no-quorum"
	TypeUnavailable     = "unavailable"
	TypeOutcomeUnknown  = "outcome-unknown"
	TypeReadTimeout     = "read-timeout"
	TypeInternal        = "internal"
)

// Problem is every error that a client sees. Its detail says what was attempted,
// what was wrong and what to do.
type Problem struct {
	Wire *apiv1.Problem
	// Cause is for the log; clients do not see it. It may be nil.
	Cause error
}

// Error is the detail.
func (p *Problem) Error() string { return p.Wire.GetDetail() }

// Unwrap is the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// Status is the HTTP status.
func (p *Problem) Status() int { return int(p.Wire.GetStatus()) }

func problem(status int32, kind, title, detail string, args ...any) *Problem {
	return &Problem{Wire: &apiv1.Problem{Status: status, Type: kind, Title: title, Detail: fmt.Sprintf(detail, args...)}}
}

// About adds the stream that the request names.
func (p *Problem) About(stream string) *Problem {
	p.Wire.StreamId = stream
	return p
}

// Of adds the write that was attempted.
func (p *Problem) Of(writeID string) *Problem {
	p.Wire.WriteId = writeID
	return p
}

// By adds the cause.
func (p *Problem) By(cause error) *Problem {
	p.Cause = cause
	return p
}

func (p *Problem) retry(seconds int32) *Problem {
	p.Wire.RetryAfter = seconds
	return p
}

// Malformed is a request that cannot be right, whatever the store holds: 400.
func Malformed(detail string, args ...any) *Problem {
	return problem(400, TypeMalformed, "Malformed request", detail, args...)
}

// Unauthenticated is a request without credentials: 401.
func Unauthenticated() *Problem {
	return problem(401, TypeUnauthenticated, "Unauthenticated", "The request has no bearer token: send \"Authorization: Bearer <token>\" with the token of EXESDB_TOKEN.")
}

// Forbidden is a request with wrong credentials: 403.
func Forbidden() *Problem {
	return problem(403, TypeForbidden, "Forbidden", "The bearer token is not the one that the gateway was started with (EXESDB_TOKEN): use that one.")
}

// NoSuchPath is a request for something that the API does not have: 404.
func NoSuchPath(method, path string) *Problem {
	return problem(404, TypeNoSuchPath, "No such path", "%s %s: the API has no such path; GET / lists those that it has.", method, path)
}

// MethodNotAllowed is a path with the wrong method: 405.
func MethodNotAllowed(method, path string) *Problem {
	return problem(405, TypeMethod, "Method not allowed", "%s %s: the path exists, but not with this method; GET / lists them.", method, path)
}

// NotAcceptable is an Accept header that cannot be served: 406.
func NotAcceptable(accept string) *Problem {
	return problem(406, TypeNotAcceptable, "Not acceptable", "Accept %q: want text/event-stream or application/x-ndjson.", accept)
}

// NotFound is a stream that was never written or was softly deleted: 404.
func NotFound(attempt, stream string) *Problem {
	return problem(404, TypeStreamNotFound, "Stream not found", "%s: there is no stream %q, or it was deleted; an append creates it.", attempt, stream).About(stream)
}

// Tombstoned is a stream that was deleted for ever: 410.
func Tombstoned(attempt, stream string) *Problem {
	return problem(410, TypeTombstoned, "Stream tombstoned", "%s: stream %q was deleted for ever; use another stream id.", attempt, stream).About(stream)
}

// TooLarge is a request over a limit: 413.
func TooLarge(detail string, args ...any) *Problem {
	return problem(413, TypeTooLarge, "Too large", detail, args...)
}

// WrongVersion is an expected version that the stream does not have: 412.
func WrongVersion(attempt, stream string, expected, actual int64) *Problem {
	p := problem(412, TypeWrongVersion, "Wrong expected version", "%s: expected %s, but %s; read the stream and decide again.",
		attempt, expectation(expected), actually(actual)).About(stream)
	p.Wire.ExpectedVersion, p.Wire.ActualVersion = &expected, &actual
	return p
}

func expectation(v int64) string {
	switch v {
	case NoStream:
		return "no stream (-1)"
	case Any:
		return "any version (-2)"
	case StreamExists:
		return "that the stream exists (-4)"
	default:
		return fmt.Sprintf("version %d", v)
	}
}

func actually(v int64) string {
	if v < 0 {
		return "there is no such stream (-1)"
	}
	return fmt.Sprintf("the stream is at version %d", v)
}

// KeyReused is an idempotency key used with another request: 422.
func KeyReused(attempt, stream string) *Problem {
	return problem(422, TypeKeyReused, "Idempotency key reused", "%s: the Idempotency-Key was used on this stream with another request; use a new key for a new request.", attempt).About(stream)
}

// Busy is a gateway with too many requests in flight: 429.
func Busy(attempt string, bound int) *Problem {
	return problem(429, TypeBusy, "Too many requests", "%s: %d requests are in flight, which is the bound; nothing was written, try again in a second.", attempt, bound).retry(1)
}

// NotReady is a system that is starting or degraded: 503.
func NotReady(missing []string) *Problem {
	what := "the system is starting"
	if len(missing) > 0 {
		what = "waiting for " + strings.Join(missing, "; ")
	}
	return problem(503, TypeNotReady, "Not ready", "The store is not ready: %s. Nothing was done; try again in a second.", what).retry(1)
}

// Unavailable is a request that had no effect because a part did not work: 503.
func Unavailable(attempt, why string) *Problem {
	return problem(503, TypeUnavailable, "Unavailable", "%s: %s. Nothing was done; try again in a second.", attempt, why).retry(1)
}

// OutcomeUnknown is a write without an answer in time: 504. It may still take effect.
func OutcomeUnknown(attempt, stream, writeID string, keyed bool) *Problem {
	what := "retry with the same Idempotency-Key, which has one effect"
	if !keyed {
		what = "read the stream before writing again, and send an Idempotency-Key with the next write so that it can be retried safely"
	}
	return problem(504, TypeOutcomeUnknown, "Outcome unknown", "%s: no answer in time, outcome unknown: the write may have been or may still be applied; %s.", attempt, what).About(stream).Of(writeID)
}

// ReadTimeout is a read without an answer in time: 504.
func ReadTimeout(attempt string) *Problem {
	return problem(504, TypeReadTimeout, "Read timed out", "%s: no replica answered in time; a read changes nothing, try again.", attempt).retry(1)
}

// Internal is a fault of the server: 500. The cause is logged, not shown.
func Internal(attempt string, cause error) *Problem {
	return problem(500, TypeInternal, "Internal error", "%s: the gateway has a fault, which its log tells; the outcome is unknown.", attempt).By(cause)
}

// Rejected is the problem of a write that the store refused.
func Rejected(attempt string, r *eventsv1.WriteRejected) *Problem {
	stream := r.GetStreamId()
	var p *Problem
	switch r.GetReason() {
	case eventsv1.RejectReason_REJECT_REASON_WRONG_EXPECTED_VERSION:
		p = WrongVersion(attempt, stream, r.GetExpectedVersion(), r.GetActualVersion())
	case eventsv1.RejectReason_REJECT_REASON_STREAM_TOMBSTONED:
		p = Tombstoned(attempt, stream)
	case eventsv1.RejectReason_REJECT_REASON_KEY_REUSED:
		p = KeyReused(attempt, stream)
	case eventsv1.RejectReason_REJECT_REASON_EVENT_ID_EXISTS:
		p = problem(422, TypeEventIDExists, "Event id exists", "%s: %s, in another place or with other events; an event id is used once.", attempt, r.GetMessage())
	case eventsv1.RejectReason_REJECT_REASON_INVALID:
		p = Malformed("%s: %s", attempt, r.GetMessage())
	case eventsv1.RejectReason_REJECT_REASON_TOO_LARGE:
		p = TooLarge("%s: %s; split the write.", attempt, r.GetMessage())
	case eventsv1.RejectReason_REJECT_REASON_STREAM_NOT_FOUND:
		p = NotFound(attempt, stream)
	case eventsv1.RejectReason_REJECT_REASON_NO_QUORUM:
		p = problem(503, TypeNoQuorum, "No quorum", "%s: %s. Nothing was written; reads go on, try again in a second.", attempt, orElse(r.GetMessage(), "too few replicas of the shard are alive")).retry(1)
	case eventsv1.RejectReason_REJECT_REASON_NOT_READY:
		p = Unavailable(attempt, orElse(r.GetMessage(), "the store is not ready"))
	default:
		p = Internal(attempt, fmt.Errorf("write rejected with reason %v: %s", r.GetReason(), r.GetMessage()))
	}
	return p.About(stream).Of(r.GetWriteId())
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
