package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/exesdb/exesdb/services/gateway/core"
)

// toProblem makes every error a problem; attempt says what was attempted, for
// those errors that do not say it.
func toProblem(attempt string, err error) *core.Problem {
	var p *core.Problem
	if errors.As(err, &p) {
		return p
	}
	var unmatched *runtime.HTTPStatusError
	st, isStatus := status.FromError(err)
	switch {
	case errors.As(err, &unmatched) && unmatched.HTTPStatus == http.StatusBadRequest:
		return core.Malformed("%s: %v", attempt, unmatched.Err)
	case isStatus && st.Code() == codes.InvalidArgument:
		return core.Malformed("%s: %s", attempt, st.Message()).By(err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return core.Unavailable(attempt, "the client's connection or deadline ended").By(err)
	}
	return core.Internal(attempt, err)
}

// toStatus is the gRPC error of a problem, with the problem as its typed detail.
func toStatus(p *core.Problem) error {
	st := status.New(code(p), p.Error())
	if detailed, err := st.WithDetails(p.Wire); err == nil {
		st = detailed
	}
	return st.Err()
}

func code(p *core.Problem) codes.Code {
	switch p.Status() {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusGone, http.StatusPreconditionFailed:
		return codes.FailedPrecondition
	case http.StatusUnprocessableEntity:
		return codes.AlreadyExists
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	default:
		return codes.Internal
	}
}

// refuse answers with application/problem+json.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, p *core.Problem) {
	if p.Status() == http.StatusInternalServerError {
		s.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", p.Cause)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if after := p.Wire.GetRetryAfter(); after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(after)))
	}
	if p.Status() == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="exesdb"`)
	}
	var out writer
	if err := out.message(p.Wire); err != nil {
		s.Log.Error("problem not written", "error", err)
	}
	body := out.out
	body = append(body, '\n')
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status())
	_, _ = w.Write(body) // the client may be gone
}
