package backend

import "github.com/prometheus/client_golang/prometheus"

// counts are the backend's metrics.
type counts struct {
	writes      *prometheus.CounterVec
	undecodable *prometheus.CounterVec
	gaps        prometheus.Counter
	hedges      prometheus.Counter
}

func newCounts(b *Backend) counts {
	c := counts{
		writes:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "exesdb_gateway_writes_total", Help: "Writes, by how they ended."}, []string{"result"}),
		undecodable: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "exesdb_gateway_undecodable_answers_total", Help: "Answers that could not be decoded."}, []string{"event"}),
		gaps:        prometheus.NewCounter(prometheus.CounterOpts{Name: "exesdb_gateway_answer_gaps_total", Help: "Times that acknowledgements or rejections were missing when a later one came."}),
		hedges:      prometheus.NewCounter(prometheus.CounterOpts{Name: "exesdb_gateway_hedged_reads_total", Help: "Reads for which another replica was asked."}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "exesdb_gateway_waiting_writes", Help: "Writes that wait for their outcome."}, func() float64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return float64(b.waiting.Len())
	})
	b.Metrics.MustRegister(c.writes, c.undecodable, c.gaps, c.hedges, waiting)
	return c
}
