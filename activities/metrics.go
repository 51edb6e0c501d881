package activities

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider.dev/postrider"
	"postrider.dev/postrider/tracing"
)

// Metrics are the Prometheus metrics of attempts and deliveries. Labels have a fixed set of
// values, which no customer can extend.
type Metrics struct {
	attempts        *prometheus.CounterVec
	deliveries      *prometheus.CounterVec
	attemptDuration *prometheus.HistogramVec
	toFirstAttempt  prometheus.Histogram
	toDelivered     prometheus.Histogram
	unblamed        prometheus.Counter
	replays         *prometheus.CounterVec
}

// NewMetrics returns the metrics, registered.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	// From 1 ms to 30 s, the longest an attempt can take, in steps of about 2.
	attempt := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	// And up to hours, for deliveries that were retried.
	delivered := append(append([]float64{}, attempt...), 60, 300, 900, 3600, 4*3600)
	m := &Metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_attempts_total", Help: "Attempts recorded, by how they ended.",
		}, []string{"result"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_deliveries_total",
			Help: "Deliveries finished, by outcome.",
		}, []string{"outcome"}),
		attemptDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "postrider_attempt_duration_seconds",
			Help:    "From before connecting to the end of the response body.",
			Buckets: attempt,
		}, []string{"result"}),
		toFirstAttempt: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "postrider_accept_to_first_attempt_seconds",
			Help:    "From the time an event was accepted, or due, to the start of a delivery's first attempt.",
			Buckets: delivered,
		}),
		toDelivered: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "postrider_accept_to_delivered_seconds",
			Help:    "From the time an event was accepted, or due, to the end of the attempt that succeeded.",
			Buckets: delivered,
		}),
		unblamed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_unblamed_attempts_total",
			Help: "Attempts that got no answer while no receiver answered: this side may be at fault, " +
				"so they do not count towards a webhook's health.",
		}),
		replays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postrider_replays_total", Help: "Replay jobs that ended, by how: finished, cancelled, or failed because the webhook was deleted.",
		}, []string{"state"}),
	}
	// Create every series now, so that a rate over the first failure is not empty.
	for _, result := range postrider.Results() {
		m.attempts.WithLabelValues(string(result))
		m.attemptDuration.WithLabelValues(string(result))
	}
	for _, state := range postrider.DeliveryStates() {
		if state.Finished() {
			m.deliveries.WithLabelValues(string(state))
		}
	}
	for _, state := range postrider.ReplayStates() {
		if state.Ended() {
			m.replays.WithLabelValues(string(state))
		}
	}
	registry.MustRegister(m.attempts, m.deliveries, m.attemptDuration, m.toFirstAttempt, m.toDelivered, m.unblamed, m.replays)
	return m
}

// observe counts a recorded attempt and what it means for its delivery.
func (m *Metrics) observe(d postrider.Delivery, o postrider.Outcome) {
	m.observeAttempt(d, o.Attempt)
	if o.State.Finished() {
		m.deliveries.WithLabelValues(string(o.State)).Inc()
	}
	if o.State == postrider.StateSucceeded {
		observe(m.toDelivered, o.FinishedAt().Sub(d.DueAt), d)
	}
}

// observeAttempt counts a recorded attempt.
func (m *Metrics) observeAttempt(d postrider.Delivery, made postrider.Attempt) {
	result := string(made.Result)
	m.attempts.WithLabelValues(result).Inc()
	observe(m.attemptDuration.WithLabelValues(result), time.Duration(made.DurationMS)*time.Millisecond, d)
	if made.Number == 1 {
		observe(m.toFirstAttempt, made.StartedAt.Sub(d.DueAt), d)
	}
}

// observe adds to a histogram, with the delivery's trace as an example if it has one: a delivery
// keeps the context only of a publish that was sampled.
func observe(histogram prometheus.Observer, took time.Duration, d postrider.Delivery) {
	exemplary, can := histogram.(prometheus.ExemplarObserver)
	if traceID := tracing.TraceID(d.TraceContext); can && traceID != "" {
		exemplary.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": traceID})
		return
	}
	histogram.Observe(took.Seconds())
}

// Expired counts deliveries that the database has made failed because they expired.
func (m *Metrics) Expired(deliveries int) {
	m.deliveries.WithLabelValues(string(postrider.StateFailed)).Add(float64(deliveries))
}

// ReplayEnded counts a replay job that has ended.
func (m *Metrics) ReplayEnded(state postrider.ReplayState) {
	m.replays.WithLabelValues(string(state)).Inc()
}

// Cancelled counts deliveries that the database has made cancelled. An attempt does not do that.
func (m *Metrics) Cancelled(deliveries int) {
	m.deliveries.WithLabelValues(string(postrider.StateCancelled)).Add(float64(deliveries))
}
