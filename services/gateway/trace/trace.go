// Package trace carries what ties a client's request to the events it causes.
package trace

import "context"

// Request identifies a client's request.
type Request struct {
	// ID is the client's X-Request-Id, or one made by the gateway; the events'
	// correlation id.
	ID string
	// Parent is the W3C traceparent, passed on as it came; it may be empty.
	Parent string
}

type key struct{}

// With is the context of the request.
func With(ctx context.Context, r Request) context.Context { return context.WithValue(ctx, key{}, r) }

// From is the request of the context; the zero value when it has none.
func From(ctx context.Context) Request {
	r, _ := ctx.Value(key{}).(Request)
	return r
}
