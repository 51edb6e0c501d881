package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider.dev/postrider/api"
	"postrider.dev/postrider/egress"
)

// scrapeTimeout bounds what a scrape asks others.
const scrapeTimeout = 3 * time.Second

// dependencies exports whether what the process needs answers. Each scrape asks.
type dependencies struct {
	checks []api.Check
	up     *prometheus.Desc
}

func newDependencies(checks []api.Check) *dependencies {
	return &dependencies{checks: checks, up: prometheus.NewDesc("postrider_dependency_up",
		"Whether database, database_writes and temporal answer this process: 1 or 0, as /readyz.", []string{"dependency"}, nil)}
}

// Describe implements [prometheus.Collector].
func (d *dependencies) Describe(descs chan<- *prometheus.Desc) { descs <- d.up }

// Collect implements [prometheus.Collector].
func (d *dependencies) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout) //nolint:forbidigo // Collect is given no context
	defer cancel()
	var asked sync.WaitGroup
	for _, check := range d.checks {
		asked.Go(func() {
			up := 1.0
			if check.Run(ctx) != nil {
				up = 0
			}
			metrics <- prometheus.MustNewConstMetric(d.up, prometheus.GaugeValue, up, check.Name)
		})
	}
	asked.Wait()
}

// certificateWarning is how long before its end a receiver's certificate is counted: most are
// renewed earlier by themselves.
const certificateWarning = 14 * 24 * time.Hour

// certificates exports how many receivers have a certificate that ends soon. A label for each
// would have no bound, so the log names them, each once.
type certificates struct {
	poster   *egress.Client
	logger   *slog.Logger
	expiring *prometheus.Desc

	mu    sync.Mutex
	named map[egress.Certificate]bool
}

func newCertificates(poster *egress.Client, logger *slog.Logger) *certificates {
	return &certificates{poster: poster, logger: logger, expiring: prometheus.NewDesc("postrider_receiver_certificates_expiring",
		"Receivers' hosts whose certificate, as this process saw it last, ends within 14 days.", nil, nil)}
}

// Describe implements [prometheus.Collector].
func (c *certificates) Describe(descs chan<- *prometheus.Desc) { descs <- c.expiring }

// Collect implements [prometheus.Collector].
func (c *certificates) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	soon, named := c.poster.Expiring(certificateWarning), map[egress.Certificate]bool{}
	for _, certificate := range soon {
		if named[certificate] = true; !c.named[certificate] {
			c.logger.Warn("a receiver's certificate ends soon",
				slog.String("host", certificate.Host), slog.Time("not_after", certificate.NotAfter))
		}
	}
	c.named = named
	metrics <- prometheus.MustNewConstMetric(c.expiring, prometheus.GaugeValue, float64(len(soon)))
}
