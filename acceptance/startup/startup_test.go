// Package startup shows scenario 1: system startup and initialization.
package startup

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

func TestMain(m *testing.M) { harness.Main(m) }

// quick makes what is missing noticed in a second.
var quick = []string{"--heartbeat", "100ms", "--lease-ttl", "500ms"}

func one() []harness.Event {
	return []harness.Event{{EventType: "Happened", Data: json.RawMessage(`{}`)}}
}

// TestEventsOfScenario1: each event of the scenario is on its topic with its fields and its envelope.
func TestEventsOfScenario1(t *testing.T) {
	s := harness.Up(t, harness.Options{})
	topics := s.Topics()
	nodes := map[string]bool{}
	for _, r := range harness.ReadAs[*eventsv1.SystemStartupInitiated](topics, registry.SystemStartupInitiated) {
		nodes[r.Value.GetNode()] = true
		if r.Value.GetStoreId() != s.StoreID || r.Value.GetTimestampMs() == 0 || string(r.Key) != r.Value.GetNode() {
			t.Errorf("system_startup_initiated: %v with key %q", r.Value, r.Key)
		}
		envelope(t, registry.SystemStartupInitiated, r.Record)
	}
	if len(nodes) != 6 {
		t.Errorf("system_startup_initiated of %v, want that of six", slices.Sorted(maps.Keys(nodes)))
	}
	for _, r := range want(t, topics, registry.ControlSystemReady, 1) {
		if e := r.(*eventsv1.ControlSystemReady); e.GetPubsubPid() == "" || e.GetControlPlanePid() != "controlplane-0" {
			t.Errorf("control_system_ready: %v", e)
		}
	}
	var expected []string
	for _, x := range registry.Expected() {
		expected = append(expected, string(x))
	}
	for _, r := range want(t, topics, registry.InitializationStarted, 1) {
		if e := r.(*eventsv1.InitializationStarted); !slices.Equal(e.GetExpectedSystems(), expected) || e.GetNode() != "controlplane-0" {
			t.Errorf("initialization_started: %v", e)
		}
	}
	var starting, ready []string
	for _, r := range want(t, topics, registry.SubsystemStarting, 5) {
		e := r.(*eventsv1.SubsystemStarting)
		starting = append(starting, e.GetSystem())
		if e.GetNode() != e.GetSystem()+"-0" || e.GetPid() == "" {
			t.Errorf("subsystem_starting: %v", e)
		}
	}
	for _, r := range want(t, topics, registry.SubsystemReady, 5) {
		e := r.(*eventsv1.SubsystemReady)
		ready = append(ready, e.GetSystem())
		if e.GetNode() != e.GetSystem()+"-0" || len(e.GetServices()) == 0 {
			t.Errorf("subsystem_ready: %v", e)
		}
	}
	for what, have := range map[string][]string{"subsystem_starting": starting, "subsystem_ready": ready} {
		slices.Sort(have)
		if !slices.Equal(slices.Compact(have), slices.Sorted(slices.Values(expected))) {
			t.Errorf("%s of %v, want %v", what, have, expected)
		}
	}
	for _, r := range want(t, topics, registry.SystemReady, 1) {
		if e := r.(*eventsv1.SystemReady); !slices.Equal(e.GetReadySystems(), expected) || e.GetNode() == "" || e.GetReadyAtMs() == 0 {
			t.Errorf("system_ready: %v", e)
		}
	}
}

// want waits for at least n records of an event and returns them, decoded.
func want(t *testing.T, topics *harness.Topics, event string, n int) []proto.Message {
	t.Helper()
	var found []proto.Message
	harness.Eventually(t, 10*time.Second, event, func() error {
		found = nil
		for _, r := range topics.Read(event, 0) {
			m := registry.Must(event).Message()
			if proto.Unmarshal(r.Value, m) != nil {
				continue
			}
			envelope(t, event, r)
			found = append(found, m)
		}
		if len(found) < n {
			return fmt.Errorf("%d records, want %d", len(found), n)
		}
		return nil
	})
	return found
}

func envelope(t *testing.T, event string, r bus.Record) {
	t.Helper()
	e, err := bus.ParseEvent(r.Headers)
	if err != nil || e.Type != event || e.ID == "" || e.Source == "" || e.Node == "" || e.Incarnation == 0 || e.Sequence == 0 || e.Time.IsZero() || e.StoreID == "" {
		t.Errorf("%s: envelope %+v, %v", event, e, err)
	}
}

// TestAnyStartOrder: the six processes reach ready in whatever order they start.
func TestAnyStartOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(harness.Seed(t), 0)) //nolint:gosec // a test's choices
	systems := registry.All()
	for round := range 4 {
		order := slices.Clone(systems)
		switch round {
		case 0: // as they are listed
		case 1:
			slices.Reverse(order)
		default:
			random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			s := harness.PrepareApart(t, harness.Options{Args: quick})
			for i, system := range order {
				p := s.Services[string(system)+"-0"]
				p.Start()
				if i < len(order)-1 {
					// The next starts when this one is so far that it says so in its log or answers.
					harness.Eventually(t, 10*time.Second, p.Name+" answers", func() error {
						_, _, err := s.Readyz(p.Name)
						return err
					})
				}
			}
			s.AwaitReady(20 * time.Second)
			if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "s", Events: one()}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGatewayRefusesUntilSystemReady: 503 with Retry-After, UNAVAILABLE over gRPC, what is missing, and nothing queued.
func TestGatewayRefusesUntilSystemReady(t *testing.T) {
	for _, missing := range []registry.System{registry.Store, registry.ControlPlane} {
		t.Run(string(missing), func(t *testing.T) {
			s := harness.PrepareApart(t, harness.Options{Args: quick})
			for name, p := range s.Services {
				if name != string(missing)+"-0" {
					p.Start()
				}
			}
			answers(t, s)
			// Everything else is there: what is missing is the one.
			harness.Eventually(t, 15*time.Second, "only "+string(missing)+" is missing", func() error {
				system, err := s.REST.System(t.Context())
				if err != nil {
					return err
				}
				if system.Ready || len(system.Missing) != 1 || !strings.HasPrefix(system.Missing[0], string(missing)) {
					return fmt.Errorf("ready %v, missing %v", system.Ready, system.Missing)
				}
				return nil
			})
			_, err := s.REST.Append(t.Context(), harness.Append{Stream: "early", Key: "k", Events: one()})
			p, ok := err.(*harness.Problem) //nolint:errorlint // the client returns it unwrapped
			if !ok || p.Status != http.StatusServiceUnavailable || p.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, string(missing)) {
				t.Errorf("append: %v", err)
			}
			_, err = s.GRPC.API.Append(t.Context(), &apiv1.AppendRequest{StreamId: "early", Events: []*apiv1.ProposedEvent{{EventType: "T", Data: []byte("1")}}})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("append over gRPC: %v, want UNAVAILABLE", err)
			}
			s.Services[string(missing)+"-0"].Start()
			s.AwaitReady(20 * time.Second)
			if head, err := s.REST.Head(t.Context(), "early"); err != nil || head.Version != -1 {
				t.Errorf("what was refused was queued: %+v %v", head, err)
			}
			if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "early", Key: "k", Events: one()}); err != nil {
				t.Errorf("append when it is ready: %v", err)
			}
		})
	}
}

// answers waits until the gateway answers at all.
func answers(t *testing.T, s *harness.Running) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, "the gateway answers", func() error {
		_, err := s.REST.System(t.Context())
		return err
	})
}

// TestReadyzNamesWhatIsMissing: the gateway's /readyz is 503 and names the system, whichever it is.
func TestReadyzNamesWhatIsMissing(t *testing.T) {
	s := harness.Apart(t, harness.Options{Args: quick})
	for _, system := range registry.Expected() {
		node := string(system) + "-0"
		if system == registry.Gateway {
			continue // it cannot say that it is missing
		}
		s.Services[node].Stop()
		harness.Eventually(t, 10*time.Second, "/readyz names "+string(system), func() error {
			code, text, err := s.Readyz("gateway-0")
			if err != nil || code != http.StatusServiceUnavailable || !strings.Contains(text, string(system)) {
				return fmt.Errorf("%d %s %w", code, text, err)
			}
			return nil
		})
		s.Services[node].Start()
		harness.Eventually(t, 20*time.Second, "/readyz is 200 again", func() error {
			code, text, err := s.Readyz("gateway-0")
			if err != nil || code != http.StatusOK {
				return fmt.Errorf("%d %s %w", code, text, err)
			}
			return nil
		})
	}
}

// TestDegradedAndReadyAgain: a system that goes makes system_degraded, one that comes back system_ready.
func TestDegradedAndReadyAgain(t *testing.T) {
	s := harness.Apart(t, harness.Options{Args: quick})
	topics := s.Topics()
	ready, degraded := settled(t, topics)
	for round, stop := range []func(*harness.Process){func(p *harness.Process) { p.Stop() }, (*harness.Process).Kill9} {
		p := s.Services["notification-0"]
		stop(p)
		events := want(t, topics, registry.SystemDegraded, degraded+1)
		last := events[len(events)-1].(*eventsv1.SystemDegraded)
		if len(last.GetMissingSystems()) != 1 || !strings.HasPrefix(last.GetMissingSystems()[0], "notification") || last.GetReason() == "" || last.GetDegradedAtMs() == 0 {
			t.Errorf("round %d: system_degraded: %v", round, last)
		}
		p.Start()
		want(t, topics, registry.SystemReady, ready+1)
		ready, degraded = settled(t, topics)
	}
}

// settled waits until the control plane's newest verdict is that the system is ready, which may be later than
// that the gateway serves, and returns how many verdicts of each kind there are.
func settled(t *testing.T, topics *harness.Topics) (ready, degraded int) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, "the control plane says that the system is ready", func() error {
		yes := harness.ReadAs[*eventsv1.SystemReady](topics, registry.SystemReady)
		no := harness.ReadAs[*eventsv1.SystemDegraded](topics, registry.SystemDegraded)
		ready, degraded = len(yes), len(no)
		if ready == 0 || degraded > 0 && no[degraded-1].Value.GetDegradedAtMs() > yes[ready-1].Value.GetReadyAtMs() {
			return fmt.Errorf("%d times ready, %d times degraded", ready, degraded)
		}
		return nil
	})
	return ready, degraded
}

// TestReadinessWithShuffledAndDuplicatedEvents: lifecycle events again, in any order, also those of a
// former life, change nothing; neither does a system_ready of yesterday without the systems.
func TestReadinessWithShuffledAndDuplicatedEvents(t *testing.T) {
	s := harness.Apart(t, harness.Options{Args: quick})
	topics := s.Topics()
	random := rand.New(rand.NewPCG(harness.Seed(t), 0)) //nolint:gosec // a test's choices
	lifecycle := []string{registry.SystemStartupInitiated, registry.ControlSystemReady, registry.InitializationStarted, registry.SubsystemStarting, registry.SubsystemReady, registry.SystemReady, registry.NodeHeartbeat}
	again := func() {
		for _, event := range lifecycle {
			records := topics.Read(event, 0)
			if len(records) > 200 {
				records = records[:200]
			}
			random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
			if err := topics.Produce(event, 0, records...); err != nil {
				t.Fatal(err)
			}
		}
	}
	degraded := len(topics.Read(registry.SystemDegraded, 0))
	for range 3 {
		again()
		if system, err := s.REST.System(t.Context()); err != nil || !system.Ready {
			t.Fatalf("after duplicates: %+v %v", system, err)
		}
	}
	// The control plane takes what was produced before what follows: an append shows that the gate is open.
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "s", Events: one()}); err != nil {
		t.Errorf("append after duplicates: %v", err)
	}
	if now := len(topics.Read(registry.SystemDegraded, 0)); now != degraded {
		t.Errorf("%d times degraded", now-degraded)
	}
	// With the store gone, the old words do not open the gate again.
	s.Services["store-0"].Kill9()
	harness.Eventually(t, 10*time.Second, "the gate closes", func() error {
		system, err := s.REST.System(t.Context())
		if err == nil && system.Ready {
			err = errors.New("it is ready")
		}
		return err
	})
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "s", Events: one()}); harness.Status(err) != http.StatusServiceUnavailable {
		t.Errorf("append without a store: %v", err)
	}
	if head, err := s.REST.Head(t.Context(), "s"); err != nil || head.Version != 0 {
		t.Errorf("read without a store: %+v %v", head, err)
	}
	again()
	for range 20 {
		if system, err := s.REST.System(t.Context()); err != nil || system.Ready {
			t.Fatalf("old words opened the gate: %+v %v", system, err)
		}
	}
	s.Services["store-0"].Start()
	s.AwaitReady(20 * time.Second)
}

// TestControlPlaneRebuildsItsView: a control plane that starts again reaches the same verdict, alone.
func TestControlPlaneRebuildsItsView(t *testing.T) {
	s := harness.Apart(t, harness.Options{Args: quick})
	topics := s.Topics()
	for _, stop := range []func(*harness.Process){func(p *harness.Process) { p.Stop() }, (*harness.Process).Kill9} {
		ready := len(topics.Read(registry.SystemReady, 0))
		stop(s.Services["controlplane-0"])
		if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "s", Events: one()}); err != nil {
			t.Errorf("append without the control plane, all else there: %v", err)
		}
		s.Services["controlplane-0"].Start()
		want(t, topics, registry.SystemReady, ready+1)
	}
}

// TestPersistenceStartsAlone: it waits for nothing but Kafka.
func TestPersistenceStartsAlone(t *testing.T) {
	s := harness.PrepareApart(t, harness.Options{Args: quick})
	s.Services["persistence-0"].Start()
	s.AwaitNodeReady("persistence-0", 15*time.Second)
}

// TestPersistenceIsReadyWhenCaughtUp: a replica that must apply the whole log again is not ready before it has.
func TestPersistenceIsReadyWhenCaughtUp(t *testing.T) {
	s := harness.Apart(t, harness.Options{Args: quick})
	var batch []harness.Event
	for range 200 {
		batch = append(batch, one()...)
	}
	for range 50 {
		if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "long", Events: batch}); err != nil {
			t.Fatal(err)
		}
	}
	p := s.Services["persistence-0"]
	p.Kill9()
	if err := os.RemoveAll(filepath.Join(s.DataDir, "persistence-0")); err != nil {
		t.Fatal(err)
	}
	topics := s.Topics()
	_, end, err := topics.Client.Watermark(t.Context(), registry.Topic(s.StoreID, registry.WriteCommandValidated), 0)
	if err != nil {
		t.Fatal(err)
	}
	before := len(topics.Read(registry.NodeHeartbeat, 0))
	p.Start()
	s.AwaitNodeReady("persistence-0", 20*time.Second)
	seen := false
	harness.Eventually(t, 5*time.Second, "a heartbeat that says ready", func() error {
		for i, r := range harness.ReadAs[*eventsv1.NodeHeartbeat](topics, registry.NodeHeartbeat) {
			if i < before || r.Value.GetSystem() != string(registry.Persistence) || !r.Value.GetReady() {
				continue
			}
			seen = true
			if shards := r.Value.GetShards(); len(shards) != 1 || shards[0].GetLogOffset() < end-1 || !shards[0].GetCaughtUp() {
				t.Errorf("ready with progress %v, the log ended at %d", shards, end)
			}
			return nil
		}
		return fmt.Errorf("none")
	})
	if !seen {
		t.Error("no heartbeat said ready")
	}
	s.AwaitReady(20 * time.Second)
	if read, err := s.REST.ReadStream(t.Context(), "long"); err != nil || len(read) != 10_000 {
		t.Errorf("%d events, %v", len(read), err)
	}
}

// TestTopicsHaveTheRetentionOfTheRegistry: every event has its topic, with the registry's partitions.
func TestTopicsHaveTheRetentionOfTheRegistry(t *testing.T) {
	s := harness.Up(t, harness.Options{Shards: 3})
	topics := s.Topics()
	for _, e := range registry.Events() {
		n, err := topics.Client.Partitions(t.Context(), e.Topic(s.StoreID))
		if err != nil || n != e.Partitions(3) {
			t.Errorf("topic %s has %d partitions, want %d: %v", e.Topic(s.StoreID), n, e.Partitions(3), err)
		}
		have := topics.Configs(e.Name)
		for name, value := range registry.TopicConfigs(e) {
			if bounded := name == "retention.bytes" || name == "segment.bytes"; bounded && !registry.Must(e.Name).Retention.Compacted() {
				continue // the embedded broker's are smaller
			}
			if have[name] != value {
				t.Errorf("topic %s: %s is %q, want %q", e.Topic(s.StoreID), name, have[name], value)
			}
		}
	}
}

// TestShardCountIsFixed: a store that was made with one shard is not opened with two.
func TestShardCountIsFixed(t *testing.T) {
	dir := t.TempDir()
	s := harness.Up(t, harness.Options{DataDir: dir})
	if code := s.All.Stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if _, _, given := harness.Real(); given {
		t.Skip("each system of a run on real Kafka has a store id of its own; the shard count is checked on the embedded broker")
	}
	again := harness.PrepareUp(t, harness.Options{DataDir: dir, Shards: 2})
	again.All.Start()
	harness.Eventually(t, 20*time.Second, "it ends by itself", func() error {
		if again.All.Running() {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	if text := again.All.Tail(4 << 10); !strings.Contains(text, "--shards 1") {
		t.Errorf("it does not say what to do: %s", text)
	}
}

// TestValidateAndVersion of each service.
func TestValidateAndVersion(t *testing.T) {
	for _, system := range registry.All() {
		for _, c := range []struct {
			args []string
			code int
			want string
		}{
			{[]string{"--validate"}, 0, "valid"},
			{[]string{"--version"}, 0, ""},
			{[]string{"--validate", "--shards", "0"}, 2, "--shards"},
			{[]string{"--validate", "--store-id", "no spaces please"}, 2, "--store-id"},
			{[]string{"--validate", "--heartbeat", "1s", "--lease-ttl", "1s"}, 2, "--lease-ttl"},
			{[]string{"--no-such-flag"}, -1, "no-such-flag"},
		} {
			out, err := exec.CommandContext(t.Context(), harness.Binary(t, string(system)), c.args...).CombinedOutput() //nolint:gosec // our own binary
			code := 0
			if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // exec returns it unwrapped
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if c.code >= 0 && code != c.code || c.code < 0 && code == 0 || !strings.Contains(string(out), c.want) || len(out) == 0 {
				t.Errorf("%s %v: code %d, want %d, output: %s", system, c.args, code, c.code, out)
			}
		}
	}
}
