package api

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// appendWindow is how many appends of one AppendStream are in flight at most;
// while it is full nothing more is received, so the client's sends block.
const appendWindow = 1024

// AppendStream implements EventStore. Appends go out in the order in which they
// came; answers come as they are there.
func (s *Service) AppendStream(stream grpc.BidiStreamingServer[apiv1.AppendStreamRequest, apiv1.AppendStreamResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var sending sync.Mutex
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	defer cancel() // before the wait: a broken stream ends those in flight
	answer := func(correlation uint64, ok *apiv1.AppendResponse, err error) {
		out := &apiv1.AppendStreamResponse{Correlation: correlation, Ok: ok}
		if err != nil {
			out.Problem = toProblem("append", err).Wire
		}
		sending.Lock()
		defer sending.Unlock()
		if stream.Send(out) != nil {
			cancel() // no one hears the rest
		}
	}
	window := make(chan struct{}, appendWindow)
	for {
		select {
		case window <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			inFlight.Wait()
			return nil
		}
		if err != nil {
			return err
		}
		actx, stop := context.WithTimeout(ctx, s.WriteTimeout)
		wait, err := s.startGated(actx, req.GetAppend())
		if err != nil { // nothing was counted in
			stop()
			answer(req.GetCorrelation(), nil, err)
			<-window
			continue
		}
		inFlight.Go(func() {
			ok, err := wait()
			stop()
			answer(req.GetCorrelation(), ok, err)
			s.drain.leave()
			<-window
		})
	}
}

// startGated is startAppend behind the gate, which may close during a long stream.
// Without an error the append is counted in by drain, and must be counted out.
func (s *Service) startGated(ctx context.Context, req *apiv1.AppendRequest) (func() (*apiv1.AppendResponse, error), error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.drain.enter("append"); err != nil {
		return nil, err
	}
	if req == nil {
		req = &apiv1.AppendRequest{} // which says what is missing
	}
	wait, err := s.startAppend(ctx, req)
	if err != nil {
		s.drain.leave()
	}
	return wait, err
}
