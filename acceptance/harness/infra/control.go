package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/exesdb/exesdb/tools/embedded"
)

// control lets tests inject faults into the broker at run time:
//
//	POST   /faults       an embedded.Fault; the answer is its id
//	GET    /faults/{id}  how many requests went wrong so far
//	DELETE /faults/{id}  ends it
//	POST   /leaders      moves the leaders of all partitions
type control struct {
	broker *embedded.Broker

	mu       sync.Mutex
	injected []*embedded.Injected
}

// serveControl serves until ctx is done.
func serveControl(ctx context.Context, addr string, broker *embedded.Broker) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	c := &control{broker: broker}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /faults", c.inject)
	mux.HandleFunc("GET /faults/{id}", c.with(func(*embedded.Injected) {}))
	mux.HandleFunc("DELETE /faults/{id}", c.with(func(i *embedded.Injected) { i.Remove() }))
	mux.HandleFunc("POST /leaders", func(w http.ResponseWriter, _ *http.Request) {
		if err := broker.MoveLeaders(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	server := &http.Server{Handler: mux} //nolint:gosec // a test's own, on this machine
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	return nil
}

func (c *control) inject(w http.ResponseWriter, r *http.Request) {
	var fault embedded.Fault
	if err := json.NewDecoder(r.Body).Decode(&fault); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	injected, err := c.broker.Inject(fault)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.injected = append(c.injected, injected)
	_, _ = w.Write([]byte(strconv.Itoa(len(c.injected) - 1)))
}

// with does something with a fault and answers its hits.
func (c *control) with(do func(*embedded.Injected)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil || id < 0 || id >= len(c.injected) {
			http.Error(w, "no such fault", http.StatusNotFound)
			return
		}
		do(c.injected[id])
		_, _ = w.Write([]byte(strconv.Itoa(c.injected[id].Hits())))
	}
}
