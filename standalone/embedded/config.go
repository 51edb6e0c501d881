package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/metrics"
)

// Defaults for zero fields of a [Config].
const (
	DefaultFrontendListen = "127.0.0.1:7233"
	DefaultUIListen       = "127.0.0.1:8233"
	DefaultNamespace      = "default"
	DefaultRetention      = 72 * time.Hour
)

// MinRetention is the shortest retention of closed workflows that Temporal accepts.
const MinRetention = 24 * time.Hour

// Config is the configuration of a [Server]. Only Dir is required.
type Config struct {
	// Dir is the data directory. Start creates it. Two servers must not use it at the same time.
	Dir string

	// DatabaseURL is the postgres:// URL of a database NAME. Temporal creates and uses
	// NAME_temporal and NAME_temporal_visibility on the same server. With "", it uses a SQLite
	// file in Dir.
	DatabaseURL string

	// Plain keeps Temporal's own defaults: its dynamic configuration, the plugin on lib/pq, and
	// every index of the visibility table. Benchmarks compare with it.
	Plain bool

	// FrontendListen is the address for clients and workers: an IP address and a port. Port 0
	// picks a free one.
	FrontendListen string

	// UIListen is the address of the web UI, in the same form.
	UIListen string

	// Namespace is created at the first start, unless Bare is set.
	Namespace string

	// Bare leaves namespaces alone: Start neither creates nor updates one.
	Bare bool

	// Retention is how long a closed workflow can be queried, at least [MinRetention]. A later
	// start with another value changes it.
	Retention time.Duration

	// SearchAttributes are the namespace's custom search attributes and their types. Start adds
	// missing ones and never removes any.
	SearchAttributes map[string]enumspb.IndexedValueType

	// Logger gets the server's log records from LogLevel on; nil drops them.
	Logger *slog.Logger

	// LogLevel is the least level of the server's log records; nil means [slog.LevelWarn].
	LogLevel slog.Leveler

	// Metrics gets the server's metrics; nil drops them.
	Metrics metrics.Handler
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("embedded temporal: no data directory given")
	}
	setDefault(&c.FrontendListen, DefaultFrontendListen)
	setDefault(&c.UIListen, DefaultUIListen)
	setDefault(&c.Namespace, DefaultNamespace)
	setDefault(&c.Retention, DefaultRetention)
	if c.Retention < MinRetention {
		return c, fmt.Errorf("embedded temporal: retention %s is shorter than %s", c.Retention, MinRetention)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LogLevel == nil {
		c.LogLevel = slog.LevelWarn
	}
	if c.Metrics == nil {
		c.Metrics = metrics.NoopMetricsHandler
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) databasePath() string { return filepath.Join(c.Dir, "temporal.db") }
