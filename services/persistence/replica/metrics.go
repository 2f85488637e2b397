package replica

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Metrics of all replicas of a process.
type Metrics struct {
	outcomes *prometheus.CounterVec
	batches  *prometheus.HistogramVec
	commits  *prometheus.HistogramVec
	offset   *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exesdb_persistence_outcomes_total", Help: "Log records applied, by what they came to.",
		}, []string{"shard", "outcome"}),
		batches: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "exesdb_persistence_batch_records", Help: "Log records per commit.", Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}, []string{"shard"}),
		commits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "exesdb_persistence_apply_seconds", Help: "Time from a drained batch to its commit.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"shard"}),
		offset: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "exesdb_persistence_applied_offset", Help: "Newest applied log offset.",
		}, []string{"shard"}),
	}
	for _, c := range []prometheus.Collector{m.outcomes, m.batches, m.commits, m.offset} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// observe counts a commit; a nil Metrics counts nothing.
func (m *Metrics) observe(shard int32, done []applied, took time.Duration) {
	if m == nil {
		return
	}
	name := strconv.Itoa(int(shard))
	var kinds [8]int
	for _, a := range done {
		if k := int(a.outcome.Kind); k >= 0 && k < len(kinds) {
			kinds[k]++
		}
	}
	for kind, n := range kinds {
		if n > 0 {
			m.outcomes.WithLabelValues(name, eventsv1.OutcomeKind(kind).String()).Add(float64(n)) //nolint:gosec // below 8
		}
	}
	m.batches.WithLabelValues(name).Observe(float64(len(done)))
	m.commits.WithLabelValues(name).Observe(took.Seconds())
	m.offset.WithLabelValues(name).Set(float64(done[len(done)-1].outcome.LogOffset))
}
