package bus

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestDialWaitsForKafka(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = Dial(ctx, Config{Brokers: []string{addr.String()}})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), addr.String()) || !strings.Contains(err.Error(), "KAFKA_BROKERS") {
		t.Fatalf("err %v: want the deadline, the address and what to do", err)
	}

	var once sync.Once
	c := dial(t, Config{Brokers: []string{addr.String()}, OnRetry: func(string, error) {
		once.Do(func() { newCluster(t, 1, kfake.Ports(addr.Port)) })
	}})
	if err := c.Healthy(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestHealthy(t *testing.T) {
	k := newCluster(t, 1)
	cfg := configOf(k)
	cfg.DialTimeout = time.Second
	c := dial(t, cfg)
	if err := c.Healthy(within(t)); err != nil {
		t.Fatal(err)
	}
	k.Close()
	if err := c.Healthy(within(t)); err == nil {
		t.Fatal("healthy without a broker")
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{Brokers: []string{"nowhere"}, Version: "1.0.0", RetryFor: -1, ReplicationFactor: -1}.Validate()
	for _, want := range []string{"nowhere", "1.0.0", "retry for", "replication factor"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %q: %v", want, err)
		}
	}
	if err := (Config{}).Validate(); err == nil {
		t.Error("no brokers, no error")
	}
}

func TestEnsureTopics(t *testing.T) {
	for _, tc := range []struct {
		brokers, replicas int
		insync            string
	}{{1, 1, "1"}, {3, 3, "2"}} {
		k := newCluster(t, tc.brokers)
		specs := []TopicSpec{
			{Name: "log", Partitions: 4, Configs: map[string]string{"retention.ms": "-1"}},
			{Name: "state", Partitions: 1, Configs: map[string]string{"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}},
		}
		k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "log", Err: kerr.NotController})
		var wg sync.WaitGroup
		for range 4 { // services start together
			wg.Go(func() {
				c, err := Dial(within(t), configOf(k))
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if err := c.EnsureTopics(within(t), specs); err != nil {
					t.Error(err)
				}
				for _, s := range specs {
					if n, err := c.Partitions(within(t), s.Name); err != nil || n != s.Partitions {
						t.Errorf("topic %s has %d partitions, err %v", s.Name, n, err)
					}
				}
			})
		}
		wg.Wait()
		info := k.TopicInfo("log")
		if got := info.NumReplicas; got != tc.replicas {
			t.Errorf("%d brokers: %d replicas, want %d", tc.brokers, got, tc.replicas)
		}
		for key, want := range map[string]string{
			"min.insync.replicas": tc.insync, "message.timestamp.type": "LogAppendTime", "max.message.bytes": "8388608", "retention.ms": "-1",
		} {
			if v := info.Configs[key]; v == nil || *v != want {
				t.Errorf("config %s is %v, want %s", key, v, want)
			}
		}
		if v := k.TopicInfo("state").Configs["message.timestamp.type"]; v == nil || *v != "CreateTime" {
			t.Errorf("the spec does not override: %v", v)
		}

		c := dial(t, configOf(k))
		specs[0].Partitions = 1
		err := c.EnsureTopics(within(t), specs)
		want := "topic log has 4 partitions, configured shard count is 1: shard count is fixed at creation; start with --shards 4 or use another store id"
		var mismatch *PartitionCountError
		if !errors.As(err, &mismatch) || err.Error() != want {
			t.Errorf("err %v, want %s", err, want)
		}
	}
}

func TestEnsureTopicsReportsWhatCannotBe(t *testing.T) {
	k := newCluster(t, 1)
	c := dial(t, configOf(k))
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "bad", Err: kerr.InvalidConfig, Count: -1})
	err := c.EnsureTopics(within(t), []TopicSpec{{Name: "bad", Partitions: 1}, {Name: "good", Partitions: 1}})
	if err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "create topic bad") {
		t.Fatalf("err %v, want the topic's name at once", err)
	}
	if err := c.EnsureTopics(within(t), []TopicSpec{{Name: "t"}}); err == nil {
		t.Fatal("no partitions, no error")
	}
}
