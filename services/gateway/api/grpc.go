package api

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/services/gateway/trace"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// maxMessage is the largest gRPC message, in bytes: a page of 4 MiB of payload
// and what goes with it, with room.
const maxMessage = 16 << 20

// NewGRPC makes the gRPC server with the service, health and reflection.
func NewGRPC(s *Service) *grpc.Server {
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.stream),
		grpc.WaitForHandlers(true),
	)
	apiv1.RegisterEventStoreServer(server, s)
	grpc_health_v1.RegisterHealthServer(server, health{gate: s.Gate})
	reflection.Register(server)
	return server
}

func (s *Service) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (out any, err error) {
	defer s.recovered(info.FullMethod, &err)
	ctx, err = s.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, toStatus(toProblem(info.FullMethod, err))
	}
	if err := s.drain.enter(info.FullMethod); err != nil {
		return nil, s.grpcError(info.FullMethod, err)
	}
	defer s.drain.leave()
	out, err = handle(ctx, req)
	if err != nil {
		return nil, s.grpcError(info.FullMethod, err)
	}
	return out, nil
}

func (s *Service) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer s.recovered(info.FullMethod, &err)
	ctx, err := s.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return toStatus(toProblem(info.FullMethod, err))
	}
	if err := handle(srv, tracedStream{stream, ctx}); err != nil {
		return s.grpcError(info.FullMethod, err)
	}
	return nil
}

// recovered keeps a panic of one call from ending the gateway, as net/http does for REST.
func (s *Service) recovered(method string, err *error) {
	if cause := recover(); cause != nil {
		s.Log.Error("call panicked", "method", method, "panic", cause, "stack", string(debug.Stack()))
		*err = toStatus(core.Internal(method, fmt.Errorf("panic: %v", cause)))
	}
}

func (s *Service) grpcError(method string, err error) error {
	if st, ok := status.FromError(err); ok { // gRPC's own, such as a cancelled stream
		return st.Err()
	}
	if st := status.FromContextError(err); st.Code() == codes.Canceled {
		return st.Err()
	}
	p := toProblem(method, err)
	if code(p) == codes.Internal {
		s.Log.Error("request failed", "method", method, "error", p.Cause)
	}
	return toStatus(p)
}

// admit checks a call before it is handled, and takes over its trace.
func (s *Service) admit(ctx context.Context, method string) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	ctx = trace.With(ctx, trace.Request{ID: first(md, "x-request-id"), Parent: first(md, "traceparent")})
	if strings.HasPrefix(method, "/grpc.health.") {
		return ctx, nil
	}
	if err := s.authorize(first(md, "authorization")); err != nil {
		return ctx, err
	}
	if !strings.HasPrefix(method, "/"+apiv1.EventStore_ServiceDesc.ServiceName+"/") || method == apiv1.EventStore_GetSystem_FullMethodName {
		return ctx, nil
	}
	return ctx, s.openFor(readMethods[method])
}

var readMethods = map[string]bool{
	apiv1.EventStore_GetStream_FullMethodName: true, apiv1.EventStore_ListStreams_FullMethodName: true,
	apiv1.EventStore_ReadStream_FullMethodName: true, apiv1.EventStore_ReadAll_FullMethodName: true,
	apiv1.EventStore_Subscribe_FullMethodName: true,
}

func first(md metadata.MD, name string) string {
	if values := md.Get(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

type tracedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a ServerStream has its context
}

// Context implements grpc.ServerStream.
func (s tracedStream) Context() context.Context { return s.ctx }

// health is gRPC's health service: serving while the gate is open.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
	gate Gate
}

func (h health) status() *grpc_health_v1.HealthCheckResponse {
	if ok, _ := h.gate.Ready(); ok {
		return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}
}

// Check implements grpc_health_v1.HealthServer.
func (h health) Check(_ context.Context, req *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if name := req.GetService(); name != "" && name != apiv1.EventStore_ServiceDesc.ServiceName {
		return nil, status.Errorf(codes.NotFound, "check health of %q: want \"\" or %q", name, apiv1.EventStore_ServiceDesc.ServiceName)
	}
	return h.status(), nil
}

// Watch implements grpc_health_v1.HealthServer; it looks once a second.
func (h health) Watch(req *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := grpc_health_v1.HealthCheckResponse_UNKNOWN
	for {
		now, err := h.Check(stream.Context(), req)
		if err != nil {
			now = &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN}
		}
		if now.GetStatus() != last {
			last = now.GetStatus()
			if err := stream.Send(now); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
