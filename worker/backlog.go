package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider.dev/postrider"
)

// BacklogReader reads the backlog from the database.
type BacklogReader interface {
	Backlog(ctx context.Context) (postrider.Backlog, error)
}

// scrapeTimeout bounds the read of one scrape.
const scrapeTimeout = 5 * time.Second

// Backlog exports metrics of the deliveries that wait for a workflow. Each scrape reads them.
type Backlog struct {
	reader    BacklogReader
	now       func() time.Time
	logger    *slog.Logger
	pending   *prometheus.Desc
	oldestAge *prometheus.Desc
	open      *prometheus.Desc
}

// NewBacklog returns the collector.
func NewBacklog(reader BacklogReader, now func() time.Time, logger *slog.Logger) *Backlog {
	return &Backlog{
		reader: reader, now: now, logger: logger,
		pending: prometheus.NewDesc("postrider_backlog_pending",
			"Deliveries that are due and not yet handed to a workflow, without those that"+
				" their webhook's max_in_flight or rate_limit, its open circuit or its resumption holds back.", nil, nil),
		oldestAge: prometheus.NewDesc("postrider_backlog_oldest_age_seconds",
			"How long the oldest of them has been due; 0 when there is none.", nil, nil),
		open: prometheus.NewDesc("postrider_circuits_open",
			"Webhooks whose circuit is open: they are sent one probe at a time.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (b *Backlog) Describe(descs chan<- *prometheus.Desc) {
	descs <- b.pending
	descs <- b.oldestAge
	descs <- b.open
}

// Collect implements [prometheus.Collector]. When the database is away it sends no metrics, so
// that the rest of the scrape succeeds.
func (b *Backlog) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout) //nolint:forbidigo // Collect is given no context
	defer cancel()
	backlog, err := b.reader.Backlog(ctx)
	if err != nil {
		b.logger.LogAttrs(ctx, slog.LevelWarn, "could not read the backlog", slog.Any("error", err))
		return
	}
	age := 0.0
	if backlog.OldestAt != nil {
		age = max(b.now().Sub(*backlog.OldestAt).Seconds(), 0)
	}
	metrics <- prometheus.MustNewConstMetric(b.pending, prometheus.GaugeValue, float64(backlog.Pending))
	metrics <- prometheus.MustNewConstMetric(b.oldestAge, prometheus.GaugeValue, age)
	metrics <- prometheus.MustNewConstMetric(b.open, prometheus.GaugeValue, float64(backlog.Open))
}
