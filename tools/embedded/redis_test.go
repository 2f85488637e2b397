package embedded

import (
	"bufio"
	"context"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func TestKeysExpireByTheTimeThatPassed(t *testing.T) {
	server := miniredis.RunT(t)
	if err := server.Set("lease", "node-0"); err != nil {
		t.Fatal(err)
	}
	server.SetTTL("lease", 2*time.Second)

	begin := time.Now()
	ticks := make(chan time.Time)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		drive(ctx, server, begin, ticks)
	}()
	// Ticks come late and out of order; what counts is the time that they tell.
	for _, at := range []time.Duration{50 * time.Millisecond, 1900 * time.Millisecond, 100 * time.Millisecond} {
		ticks <- begin.Add(at)
	}
	ticks <- begin // received only once the ones before were carried out
	if !server.Exists("lease") {
		t.Fatal("the key expired after 1.9 s of 2")
	}
	ticks <- begin.Add(2 * time.Second)
	ticks <- begin
	if server.Exists("lease") {
		t.Fatal("the key is there after its 2 s")
	}
	stop()
	<-done
}

// The whole server over its socket: a client that waits on a key's expiry gets it without anyone forwarding time.
func TestStartRedis(t *testing.T) {
	r, err := StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	say := func(command string) string {
		t.Helper()
		if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
			t.Fatal(err)
		}
		answer, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	inline := func(args ...string) string {
		command := "*" + string(rune('0'+len(args))) + "\r\n"
		for _, a := range args {
			command += "$" + string(rune('0'+len(a))) + "\r\n" + a + "\r\n"
		}
		return say(command[:len(command)-2])
	}
	if got := inline("SET", "k", "v", "PX", "200", "NX"); got != "+OK\r\n" {
		t.Fatalf("SET: %q", got)
	}
	for inline("EXISTS", "k") == ":1\r\n" { // ends by expiry, or by the connection's deadline
	}
}
