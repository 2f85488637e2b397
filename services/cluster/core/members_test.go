package core

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/prototext"
)

// TestMembers replays transcripts: beat NODE INCARNATION SEQUENCE, at the time in ms.
func TestMembers(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		m := NewMembers("exesdb", 1500*time.Millisecond, 0)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var ms int64
			d.ScanArgs(t, "ms", &ms)
			now := time.UnixMilli(ms)
			var out []Output
			switch d.Cmd {
			case "beats":
				for _, line := range strings.Split(d.Input, "\n") {
					f := strings.Fields(line)
					inc, err1 := strconv.ParseUint(f[1], 10, 64)
					seq, err2 := strconv.ParseUint(f[2], 10, 64)
					if err1 != nil || err2 != nil {
						t.Fatalf("%s: %v %v", line, err1, err2)
					}
					out = append(out, m.Heartbeat(f[0], inc, seq, now)...)
				}
			case "tick":
				out = m.Tick(now)
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			if len(out) == 0 {
				return "nothing"
			}
			var b strings.Builder
			for _, o := range out {
				text := prototext.MarshalOptions{}.Format(o.Event)
				fmt.Fprintf(&b, "%s %s: %s\n", o.Key, o.Event.ProtoReflect().Descriptor().Name(), strings.ReplaceAll(text, "  ", " "))
			}
			return b.String()
		})
	})
}
