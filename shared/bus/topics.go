package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// TopicSpec is a topic as it must be. Configs override the settings of
// [Client.EnsureTopics] by Kafka's names.
type TopicSpec struct {
	Name       string
	Partitions int32
	Configs    map[string]string
}

// EnsureTopics creates what is missing, in one request, and returns when every
// partition has a leader. Others may do the same at the same time. Replication is 3
// with min.insync.replicas 2 where there are three brokers (or as configured), time is
// the broker's, unclean leader election is off. It fails for a topic that exists with
// another number of partitions, and otherwise tries until ctx is done.
func (c *Client) EnsureTopics(ctx context.Context, specs []TopicSpec) error {
	if len(specs) == 0 {
		return nil
	}
	names := make([]string, len(specs))
	for i, s := range specs {
		if s.Name == "" || s.Partitions < 1 {
			return fmt.Errorf("topic %q with %d partitions: want a name and at least one partition", s.Name, s.Partitions)
		}
		names[i] = s.Name
	}
	var pause backoff
	var asked map[string]bool // created by us or by others: only leaders are missing
	for {
		missing, err := c.topicState(ctx, specs, names)
		if err == nil && len(missing) == 0 {
			return nil
		}
		var mismatch *PartitionCountError
		if errors.As(err, &mismatch) {
			return err
		}
		if err == nil {
			missing = slices.DeleteFunc(missing, func(s TopicSpec) bool { return asked[s.Name] })
			if len(missing) > 0 {
				created, cerr := c.createTopics(ctx, missing)
				if asked == nil {
					asked = map[string]bool{}
				}
				for _, n := range created {
					asked[n] = true
				}
				if err = cerr; err != nil && !retriableAdmin(err) {
					return err
				}
			} else {
				err = fmt.Errorf("topics %s have no leaders yet", strings.Join(names, ", "))
			}
			if err == nil {
				pause.reset()
			}
		}
		if err != nil {
			c.cfg.retrying("ensure topics", err)
		}
		if !pause.wait(ctx, time.Time{}) {
			if err == nil {
				err = errors.New("the new topics have no leaders yet")
			}
			return fmt.Errorf("ensure topics: %w (last attempt: %w)", ctx.Err(), err)
		}
	}
}

// PartitionCountError says that a topic exists with another number of partitions
// than configured. It cannot be mended: streams would change their shard.
type PartitionCountError struct {
	Topic      string
	Have, Want int32
}

func (e *PartitionCountError) Error() string {
	return fmt.Sprintf("topic %s has %d partitions, configured shard count is %d: shard count is fixed at creation; start with --shards %d or use another store id",
		e.Topic, e.Have, e.Want, e.Have)
}

// topicState returns the topics that do not exist, or lack a leader.
func (c *Client) topicState(ctx context.Context, specs []TopicSpec, names []string) ([]TopicSpec, error) {
	res, err := call(ctx, func() (*sarama.MetadataResponse, error) {
		b := c.sarama.LeastLoadedBroker()
		if b == nil {
			return nil, sarama.ErrOutOfBrokers
		}
		req := sarama.NewMetadataRequest(c.base.Version, names)
		res, err := b.GetMetadata(req)
		if err != nil {
			_ = b.Close() // so that the next attempt dials, perhaps elsewhere
			_ = c.sarama.RefreshMetadata()
		}
		return res, err
	})
	if err != nil {
		return nil, fmt.Errorf("read metadata of topics: %w", err)
	}
	have := make(map[string]*sarama.TopicMetadata, len(res.Topics))
	for _, t := range res.Topics {
		have[t.Name] = t
	}
	var missing []TopicSpec
	for _, s := range specs {
		t := have[s.Name]
		if t == nil || errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition) {
			missing = append(missing, s)
			continue
		}
		if t.Err != sarama.ErrNoError && t.Err != sarama.ErrLeaderNotAvailable {
			return nil, fmt.Errorf("read metadata of topic %s: %w", s.Name, t.Err)
		}
		if n := int32(len(t.Partitions)); n != s.Partitions && n > 0 {
			return nil, &PartitionCountError{Topic: s.Name, Have: n, Want: s.Partitions}
		}
		led := len(t.Partitions) > 0
		for _, p := range t.Partitions {
			led = led && p.Leader >= 0 && p.Err != sarama.ErrLeaderNotAvailable
		}
		if !led {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		// The client's own view has to know them too.
		if _, err := call(ctx, func() (struct{}, error) { return struct{}{}, c.sarama.RefreshMetadata(names...) }); err != nil {
			return nil, fmt.Errorf("refresh metadata of topics: %w", err)
		}
	}
	return missing, nil
}

// createTopics returns the names that exist now.
func (c *Client) createTopics(ctx context.Context, specs []TopicSpec) ([]string, error) {
	replicas, insync := c.cfg.ReplicationFactor, 1
	if replicas == 0 {
		replicas = 1
		if len(c.sarama.Brokers()) >= 3 {
			replicas = 3
		}
	}
	if replicas >= 3 {
		insync = 2
	}
	details := make(map[string]*sarama.TopicDetail, len(specs))
	for _, s := range specs {
		configs := map[string]string{
			"min.insync.replicas":            strconv.Itoa(insync),
			"message.timestamp.type":         "LogAppendTime",
			"max.message.bytes":              strconv.Itoa(MaxMessageBytes),
			"unclean.leader.election.enable": "false",
		}
		maps.Copy(configs, s.Configs)
		entries := make(map[string]*string, len(configs))
		for k, v := range configs {
			entries[k] = &v
		}
		details[s.Name] = &sarama.TopicDetail{NumPartitions: s.Partitions, ReplicationFactor: replicas, ConfigEntries: entries}
	}
	res, err := call(ctx, func() (*sarama.CreateTopicsResponse, error) {
		b, err := c.sarama.Controller()
		if err != nil {
			return nil, err
		}
		res, err := b.CreateTopics(sarama.NewCreateTopicsRequest(c.base.Version, details, c.cfg.RequestTimeout, false))
		if err != nil {
			_ = b.Close()
		}
		return res, err
	})
	if err != nil {
		return nil, fmt.Errorf("create topics: %w", err)
	}
	var exist []string
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(res.TopicErrors)) {
		switch e := res.TopicErrors[name]; e.Err {
		case sarama.ErrNoError, sarama.ErrTopicAlreadyExists:
			exist = append(exist, name)
		case sarama.ErrNotController:
			_, _ = call(ctx, c.sarama.RefreshController)
			errs = append(errs, fmt.Errorf("create topic %s: %w", name, e.Err))
		default:
			errs = append(errs, fmt.Errorf("create topic %s: %w", name, e))
		}
	}
	return exist, errors.Join(errs...)
}

// retriableAdmin tells whether creating topics may succeed later: brokers that are
// still to register make the replication factor possible.
func retriableAdmin(err error) bool {
	for _, fatal := range []sarama.KError{
		sarama.ErrInvalidTopic, sarama.ErrInvalidConfig, sarama.ErrInvalidPartitions, sarama.ErrInvalidRequest,
		sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrPolicyViolation, sarama.ErrUnsupportedVersion,
	} {
		if errors.Is(err, fatal) {
			return false
		}
	}
	return true
}
