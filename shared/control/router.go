// Package control is the control lane: lifecycle, cluster and subscription
// events through Watermill's router, one typed handler per reactive policy.
//
// Who must know reads everything: a handler reads its topic in every instance,
// without a consumer group. Who must act once holds a lease, not a group.
package control

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/exesdb/exesdb/contracts/registry"
)

// From says where a handler starts to read.
type From int

// Starts.
const (
	Oldest From = iota // all that is kept: for state
	Newest             // from now on: for signals that repeat
)

// Options of a Router.
type Options struct {
	StoreID    string
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Publisher  message.Publisher
	// Subscribe makes a subscriber that reads a whole topic.
	Subscribe func(From) (message.Subscriber, error)
}

// Router runs policies.
type Router struct {
	opts    Options
	router  *message.Router
	handled *prometheus.CounterVec
	age     *prometheus.HistogramVec
}

// NewRouter makes a router without policies. A record that cannot be decoded
// and a policy that keeps failing end in the poison topic, with the reason.
func NewRouter(opts Options) (*Router, error) {
	r, err := message.NewRouter(message.RouterConfig{CloseTimeout: 2 * time.Second}, watermill.NewSlogLogger(quiet(opts.Log)))
	if err != nil {
		return nil, fmt.Errorf("make control router: %w", err)
	}
	poison, err := middleware.PoisonQueue(opts.Publisher, registry.Topic(opts.StoreID, registry.PoisonRecord))
	if err != nil {
		return nil, fmt.Errorf("make poison queue: %w", err)
	}
	retry := middleware.Retry{MaxRetries: 3, InitialInterval: 20 * time.Millisecond, MaxInterval: time.Second, Multiplier: 4}
	r.AddMiddleware(middleware.CorrelationID, poison, retry.Middleware, middleware.Timeout(10*time.Second), middleware.Recoverer)
	c := &Router{
		opts: opts, router: r,
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "exesdb_control_handled_total", Help: "Control events handled, by policy and result."}, []string{"policy", "event", "result"}),
		age:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "exesdb_control_age_seconds", Help: "Age of a control event when its policy handled it.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10)}, []string{"event"}),
	}
	opts.Registerer.MustRegister(c.handled, c.age)
	return c, nil
}

// quiet keeps Watermill's own information out of our log.
func quiet(log *slog.Logger) *slog.Logger {
	return slog.New(levelHandler{log.Handler(), slog.LevelError})
}

type levelHandler struct {
	slog.Handler
	least slog.Level
}

func (h levelHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.least && h.Handler.Enabled(ctx, l)
}

func (h levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelHandler{h.Handler.WithAttrs(attrs), h.least}
}

func (h levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{h.Handler.WithGroup(name), h.least}
}

// On adds a policy: handle runs for every event of T's type, in topic order.
// policy is its name, such as "PublishSystemReadyOnSubsystemReady".
func On[T any](r *Router, policy string, from From, handle func(ctx context.Context, meta Meta, event *T) error) error {
	processor, err := cqrs.NewEventProcessorWithConfig(r.router, cqrs.EventProcessorConfig{
		GenerateSubscribeTopic: func(p cqrs.EventProcessorGenerateSubscribeTopicParams) (string, error) {
			return registry.Topic(r.opts.StoreID, p.EventName), nil
		},
		SubscriberConstructor: func(cqrs.EventProcessorSubscriberConstructorParams) (message.Subscriber, error) {
			return r.opts.Subscribe(from)
		},
		OnHandle:          r.observe,
		Marshaler:         Codec{},
		Logger:            watermill.NewSlogLogger(quiet(r.opts.Log)),
		AckOnUnknownEvent: true,
	})
	if err != nil {
		return fmt.Errorf("add policy %s: %w", policy, err)
	}
	err = processor.AddHandlers(cqrs.NewEventHandler(policy, func(ctx context.Context, event *T) error {
		return handle(ctx, metaOf(cqrs.OriginalMessageFromCtx(ctx)), event)
	}))
	if err != nil {
		return fmt.Errorf("add policy %s: %w", policy, err)
	}
	return nil
}

func (r *Router) observe(p cqrs.EventProcessorOnHandleParams) error {
	if at := metaOf(p.Message).Time; !at.IsZero() {
		r.age.WithLabelValues(p.EventName).Observe(time.Since(at).Seconds())
	}
	err := p.Handler.Handle(p.Message.Context(), p.Event)
	result := "ok"
	if err != nil {
		result = "error"
	}
	r.handled.WithLabelValues(p.Handler.HandlerName(), p.EventName, result).Inc()
	return err
}

// Run runs the policies until ctx is done.
func (r *Router) Run(ctx context.Context) error { return r.router.Run(ctx) }

// Running is closed when every policy reads its topic.
func (r *Router) Running() <-chan struct{} { return r.router.Running() }
