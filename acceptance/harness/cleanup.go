package harness

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/exesdb/exesdb/contracts/registry"
)

// dropTopics removes a store's topics at the end of a test from a real Kafka, which all tests share: a store has
// dozens, and a broker with those of a whole suite is slow.
func dropTopics(t testing.TB, kafka, storeID string) {
	t.Cleanup(func() {
		if err := deleteTopics(kafka, storeID); err != nil {
			t.Logf("the topics of store %s stay: %v", storeID, err)
		}
	})
}

func deleteTopics(kafka, storeID string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(kafka, ",")...))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // a test's own is over
	defer cancel()
	admin := kadm.NewClient(client)
	there, err := admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	var names []string
	for _, name := range there.Names() {
		if strings.HasPrefix(name, registry.Topic(storeID, "")) {
			names = append(names, name)
		}
	}
	deleted, err := admin.DeleteTopics(ctx, names...)
	if err == nil {
		err = deleted.Error()
	}
	return err
}
