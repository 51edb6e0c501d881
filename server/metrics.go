package server

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postrider.dev/postrider/api"
)

// newRegistry returns a registry with the metrics of the Go runtime and the process.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// newShedCounter returns the counter of connections that were closed to make room.
func newShedCounter(registry prometheus.Registerer) prometheus.Counter {
	counter := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postrider_connections_shed_total",
		Help: "Connections without a key that were closed to make room for others, because a listener was full.",
	})
	registry.MustRegister(counter)
	return counter
}

// metricsHandler serves the metrics listener: /metrics and the health routes. Exemplars are seen by
// those who ask for OpenMetrics, as Prometheus does.
func metricsHandler(registry *prometheus.Registry, health http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	return mux
}

// apiMetrics counts accepted events and requests to the API. The labels are the route's
// template, the method and the status, so no customer chooses the value of a label.
type apiMetrics struct {
	events     prometheus.Counter
	deliveries prometheus.Counter
	broken     prometheus.Counter
	requests   *prometheus.HistogramVec
}

func newAPIMetrics(registry prometheus.Registerer) *apiMetrics {
	m := &apiMetrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_events_accepted_total", Help: "Events accepted; repeated publishes of one are not counted.",
		}),
		deliveries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_deliveries_accepted_total", Help: "Deliveries that the accepted events made.",
		}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_events_schema_broken_total", Help: "Events accepted that break the schema of their type, which only warns.",
		}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postrider_api_request_duration_seconds", Help: "Requests to the API, by route and status.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"method", "route", "status"}),
	}
	registry.MustRegister(m.events, m.deliveries, m.broken, m.requests)
	return m
}

func (m *apiMetrics) accepted(events, deliveries int) {
	m.events.Add(float64(events))
	m.deliveries.Add(float64(deliveries))
}

func (m *apiMetrics) schemaBroken(events int) { m.broken.Add(float64(events)) }

func (m *apiMetrics) request(r api.RequestSummary) {
	if r.Route == "" { // requests for unknown paths can have any method
		r.Method = "other"
	}
	m.requests.WithLabelValues(r.Method, r.Route, strconv.Itoa(r.Status)).Observe(r.Duration.Seconds())
}
