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

// Defaults of a [Config]'s zero fields.
const (
	DefaultFrontendListen = "127.0.0.1:7233"
	DefaultUIListen       = "127.0.0.1:8233"
	DefaultNamespace      = "default"
	DefaultRetention      = 72 * time.Hour
)

// MinRetention is the shortest time that Temporal lets a namespace keep closed
// workflows.
const MinRetention = 24 * time.Hour

// Config is what [Start] needs to know. Only Dir must be set.
type Config struct {
	// Dir is the data directory; it is made when it does not exist. Two servers
	// must not share one at the same time.
	Dir string

	// DatabaseURL is the postgres:// URL of a database beside which Temporal makes two
	// of its own, named after it: NAME_temporal and NAME_temporal_visibility. "" keeps
	// everything in a file in Dir.
	DatabaseURL string

	// Plain leaves the server and PostgreSQL as Temporal's own set-up makes them: its
	// dynamic configuration's defaults, the plugin on lib/pq, every index of the
	// visibility table. It is for benchmarks to compare with.
	Plain bool

	// FrontendListen is where clients and workers connect: an IP address and a
	// port, of which 0 picks a free one.
	FrontendListen string

	// UIListen is where the web UI listens, in the same form.
	UIListen string

	// Namespace is made on the first start, unless Bare.
	Namespace string

	// Bare leaves namespaces alone: none is made, none is brought up to date.
	Bare bool

	// Retention is how long a closed workflow can still be queried, at least
	// [MinRetention]. A later start with another value changes it.
	Retention time.Duration

	// SearchAttributes are the namespace's custom search attributes and their
	// types. A start adds those that are missing and removes none.
	SearchAttributes map[string]enumspb.IndexedValueType

	// Logger gets the server's own lines, from LogLevel on; nil drops them.
	Logger *slog.Logger

	// LogLevel is [slog.LevelWarn] when nil.
	LogLevel slog.Leveler

	// Metrics gets the server's own metrics; nil drops them.
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
