package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"postrider.dev/postrider/egress"
)

// Version is the version of the build, set by the linker.
var Version = "dev" //nolint:gochecknoglobals // -ldflags -X can set nothing else

// Settings are the settings of every server process.
type Settings struct {
	MetricsListen   string        `env:"POSTRIDER_METRICS_LISTEN" default:"127.0.0.1:9464" help:"Address of /metrics, /healthz and /readyz."`
	AllowNetworks   string        `env:"POSTRIDER_ALLOW_NETWORKS" placeholder:"CIDRS" help:"Comma-separated CIDRs that may be delivered to though they are loopback, private or otherwise special; 'none' refuses all of these. Default: ${allow_networks}."`
	AllowHosts      string        `env:"POSTRIDER_ALLOW_HOSTS" placeholder:"NAMES" help:"Comma-separated host names, and suffixes such as .internal.example, that may be delivered to though they resolve to loopback or private addresses. Addresses where clouds serve credentials stay refused."`
	EgressProxy     string        `env:"POSTRIDER_EGRESS_PROXY" placeholder:"URL" help:"HTTP proxy through which all deliveries go, by CONNECT, such as http://proxy.corp:3128. Names are looked up and addresses checked here, before. Prefer the environment to the flag if the URL has a password: other users can see a command line."`
	EncryptionKeys  string        `env:"POSTRIDER_ENCRYPTION_KEYS" placeholder:"KEYS" help:"Comma-separated base64 keys of 32 bytes that encrypt signing secrets, custom headers and client keys: the first encrypts, all decrypt. Prefer the environment to the flag: other users can see a command line."`
	ShutdownTimeout time.Duration `env:"POSTRIDER_SHUTDOWN_TIMEOUT" default:"${shutdown_timeout}" help:"How long requests and attempts under way may take to end after SIGTERM. What is cut off is attempted again, by another process or after the next start."`

	TracesSettings
	ProfileSettings
	LogSettings
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (s *Settings) Validate() error {
	if s.ShutdownTimeout < 0 {
		return errors.New("--shutdown-timeout (POSTRIDER_SHUTDOWN_TIMEOUT): must not be negative")
	}
	_, err := s.egress(nil)
	return err
}

// egress returns how receivers are reached. fallback are the special networks that may be delivered to when the
// setting names none.
func (s *Settings) egress(fallback []netip.Prefix) (config egress.Config, err error) {
	if config.AllowNetworks, err = s.networks(fallback); err != nil {
		return config, err
	}
	if config.AllowHosts, err = egress.ParseHosts(s.AllowHosts); err != nil {
		return config, fmt.Errorf("--allow-hosts (POSTRIDER_ALLOW_HOSTS): %w", err)
	}
	if config.Proxy, err = egress.ParseProxy(s.EgressProxy); err != nil {
		return config, fmt.Errorf("--egress-proxy (POSTRIDER_EGRESS_PROXY): %w", err)
	}
	return config, nil
}

// networks returns the special networks that may be delivered to, or fallback when the
// setting is empty.
func (s *Settings) networks(fallback []netip.Prefix) ([]netip.Prefix, error) {
	if strings.TrimSpace(s.AllowNetworks) == "" {
		return fallback, nil
	}
	networks, err := egress.ParseNetworks(s.AllowNetworks)
	if err != nil {
		return nil, fmt.Errorf("--allow-networks (POSTRIDER_ALLOW_NETWORKS): %w", err)
	}
	return networks, nil
}

// APISettings are the settings of a process that serves the API.
type APISettings struct {
	Listen                  string        `env:"POSTRIDER_LISTEN" default:"127.0.0.1:8080" help:"Address of the HTTP API. Port 0 picks a free one."`
	RateLimitPerKey         int           `env:"POSTRIDER_RATE_LIMIT_PER_KEY" default:"0" help:"Requests a second that each API key may make of this process, a batch being one; what is more is a 429 with Retry-After. 0 sets no limit."`
	MaxWebhooksPerWorkspace int           `env:"POSTRIDER_MAX_WEBHOOKS_PER_WORKSPACE" name:"max-webhooks-per-workspace" default:"10000" help:"Webhooks that a workspace may have; creating one more is a 409. 0 sets no limit."`
	DrainDelay              time.Duration `env:"POSTRIDER_DRAIN_DELAY" default:"1s" help:"How long the API goes on taking requests after SIGTERM, while /readyz is 503 and each answer closes its connection, so that clients and load balancers change over. Make it longer than a load balancer takes to notice; the shutdown timeout begins after it."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (s *APISettings) Validate() error {
	if s.DrainDelay < 0 {
		return errors.New("--drain-delay (POSTRIDER_DRAIN_DELAY): must not be negative")
	}
	if s.RateLimitPerKey < 0 {
		return errors.New("--rate-limit-per-key (POSTRIDER_RATE_LIMIT_PER_KEY): must not be negative")
	}
	if s.MaxWebhooksPerWorkspace < 0 {
		return errors.New("--max-webhooks-per-workspace (POSTRIDER_MAX_WEBHOOKS_PER_WORKSPACE): must not be negative")
	}
	return nil
}

// WorkerSettings are the settings of a process that delivers.
type WorkerSettings struct {
	Retention      Days   `env:"POSTRIDER_RETENTION" default:"30d" help:"How long finished deliveries and their events are kept, in days (30d) or hours (720h), a day at least; 0 keeps them for ever. All workers must have the same."`
	AuditRetention Days   `env:"POSTRIDER_AUDIT_RETENTION" default:"90d" help:"How long the audit log is kept, in days or hours, a day at least; 0 keeps it for ever. All workers must have the same."`
	StatsRetention Days   `env:"POSTRIDER_STATS_RETENTION" default:"90d" help:"How long stats are kept, in days or hours, a day at least; 0 keeps them for ever. They are by the minute for a day, and by the hour then. All workers must have the same."`
	Batching       string `env:"POSTRIDER_BATCHING" default:"auto" enum:"auto,always,never" help:"When one workflow carries many deliveries: ${enum}. With auto, first attempts share one from three deliveries a second on, and retries of one webhook that are due about the same time always; with never, each delivery has a workflow to itself at any time, which costs many times the CPU."`
	MaxPerHost     int    `env:"POSTRIDER_MAX_IN_FLIGHT_PER_HOST" name:"max-in-flight-per-host" default:"0" help:"Of these, how many go to one host and port at once, whichever webhooks they are of; 0 sets no limit."`
	MaxInFlight    int    `env:"POSTRIDER_MAX_IN_FLIGHT" default:"2000" help:"Attempts that go on at once in this process (1 to 2000)."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (s *WorkerSettings) Validate() error {
	if s.MaxInFlight < 1 || s.MaxInFlight > 2000 {
		return errors.New("--max-in-flight (POSTRIDER_MAX_IN_FLIGHT): must be from 1 to 2000")
	}
	if s.MaxPerHost < 0 {
		return errors.New("--max-in-flight-per-host (POSTRIDER_MAX_IN_FLIGHT_PER_HOST): must not be negative")
	}
	for _, retention := range []struct {
		flag string
		Days
	}{
		{"--retention (POSTRIDER_RETENTION)", s.Retention},
		{"--audit-retention (POSTRIDER_AUDIT_RETENTION)", s.AuditRetention},
		{"--stats-retention (POSTRIDER_STATS_RETENTION)", s.StatsRetention},
	} {
		if retention.Days != 0 && retention.Days < oneDay {
			return errors.New(retention.flag + ": must be 1d or longer, or 0")
		}
	}
	return nil
}

// LogSettings say what is logged and how.
type LogSettings struct {
	LogLevel  string `env:"POSTRIDER_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"Least level that is logged, to standard error: ${enum}."`
	LogFormat string `env:"POSTRIDER_LOG_FORMAT" default:"text" enum:"text,json" help:"Format of the log: ${enum}."`
}

// Logger returns a logger that drops records below the configured level and below least.
// Callers raise least for libraries that log more than operators want to read.
func (s *LogSettings) Logger(least slog.Level) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		level = slog.LevelInfo // kong checked the value
	}
	options := &slog.HandlerOptions{Level: max(level, least)}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
