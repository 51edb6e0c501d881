package server

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"
)

// sdkTags are the tags of the Temporal SDK's metrics that become labels. Each has a few values,
// which this project or the SDK defines. Every metric has all these labels, because Prometheus
// wants the same labels each time; a tag that the SDK does not give is "".
func sdkTags() []string {
	return []string{"operation", "status_code", "worker_type", "poller_type", "workflow_type", "activity_type", "failure_reason"}
}

// sdkMetrics registers the Temporal SDK's metrics with Prometheus, under the SDK's names and
// with Prometheus's units (https://docs.temporal.io/references/sdk-metrics).
type sdkMetrics struct {
	registry prometheus.Registerer

	mu         sync.Mutex
	counters   map[string]*prometheus.CounterVec
	gauges     map[string]*prometheus.GaugeVec
	histograms map[string]*prometheus.HistogramVec
}

// newSDKMetrics returns the metrics handler for the options of a Temporal client.
func newSDKMetrics(registry prometheus.Registerer) client.MetricsHandler {
	return sdkHandler{
		metrics: &sdkMetrics{
			registry:   registry,
			counters:   map[string]*prometheus.CounterVec{},
			gauges:     map[string]*prometheus.GaugeVec{},
			histograms: map[string]*prometheus.HistogramVec{},
		},
		labels: make([]string, len(sdkTags())),
	}
}

// sdkHandler is sdkMetrics with values for some labels.
type sdkHandler struct {
	metrics *sdkMetrics
	labels  []string // values, in the order of sdkTags
}

// WithTags implements [client.MetricsHandler].
func (h sdkHandler) WithTags(tags map[string]string) client.MetricsHandler {
	h.labels = slices.Clone(h.labels)
	for i, name := range sdkTags() {
		if value, given := tags[name]; given {
			h.labels[i] = value
		}
	}
	return h
}

// Counter implements [client.MetricsHandler].
func (h sdkHandler) Counter(name string) client.MetricsCounter {
	vec := vecOf(h.metrics, h.metrics.counters, name+"_total", func(name string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: "Of Temporal's SDK."}, sdkTags())
	})
	return counter{vec.WithLabelValues(h.labels...)}
}

// Gauge implements [client.MetricsHandler].
func (h sdkHandler) Gauge(name string) client.MetricsGauge {
	vec := vecOf(h.metrics, h.metrics.gauges, name, func(name string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: "Of Temporal's SDK."}, sdkTags())
	})
	return gauge{vec.WithLabelValues(h.labels...)}
}

// Timer implements [client.MetricsHandler].
func (h sdkHandler) Timer(name string) client.MetricsTimer {
	vec := vecOf(h.metrics, h.metrics.histograms, name+"_seconds", func(name string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: "Of Temporal's SDK.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, sdkTags())
	})
	return timer{vec.WithLabelValues(h.labels...)}
}

// vecOf returns the vector of the name. It creates and registers a new one.
func vecOf[V prometheus.Collector](m *sdkMetrics, known map[string]V, name string, create func(name string) V) V {
	m.mu.Lock()
	defer m.mu.Unlock()
	vec, found := known[name]
	if !found {
		vec = create(name)
		m.registry.MustRegister(vec)
		known[name] = vec
	}
	return vec
}

type counter struct{ prometheus.Counter }

// Inc implements [client.MetricsCounter].
func (c counter) Inc(n int64) { c.Add(float64(n)) }

type gauge struct{ prometheus.Gauge }

// Update implements [client.MetricsGauge].
func (g gauge) Update(value float64) { g.Set(value) }

type timer struct{ prometheus.Observer }

// Record implements [client.MetricsTimer].
func (t timer) Record(took time.Duration) { t.Observe(took.Seconds()) }
