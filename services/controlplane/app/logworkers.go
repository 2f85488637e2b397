package app

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/shared/control"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// logWorkers are the routing rules of the logger workers: which events are
// logged, and how loudly. Adding a rule is one line.
func logWorkers(router *control.Router, log *slog.Logger) error {
	return errors.Join(
		logOn[eventsv1.SystemStartupInitiated](router, log, "LogOnSystemStartupInitiated", slog.LevelInfo),
		logOn[eventsv1.SystemReady](router, log, "LogOnSystemReady", slog.LevelInfo),
		logOn[eventsv1.KhepriLeaderChanged](router, log, "LogOnKhepriLeaderChanged", slog.LevelInfo),
		logOn[eventsv1.ClusterMembershipChanged](router, log, "LogOnClusterMembershipChanged", slog.LevelInfo),
		logOn[eventsv1.NodeFailureDetected](router, log, "LogOnNodeFailureDetected", slog.LevelWarn),
		logOn[eventsv1.ReplicaDiverged](router, log, "LogOnReplicaDiverged", slog.LevelError),
	)
}

func logOn[T any](router *control.Router, log *slog.Logger, policy string, level slog.Level) error {
	return control.On(router, policy, control.Newest, func(ctx context.Context, meta control.Meta, event *T) error {
		message, ok := any(event).(proto.Message)
		if !ok {
			return errors.New("event is not a protobuf message")
		}
		body, err := protojson.Marshal(message)
		if err != nil {
			return err
		}
		log.Log(ctx, level, control.Codec{}.Name(event), "from", meta.Node, "event", string(body))
		return nil
	})
}
