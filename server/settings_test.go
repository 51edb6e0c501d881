package server

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/egress"
)

func TestLogLevelIsTheHigherOfTwo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		configured string
		least      slog.Level
		want       slog.Level
	}{
		{"debug", slog.LevelDebug, slog.LevelDebug},
		{"debug", slog.LevelWarn, slog.LevelWarn},
		{"error", slog.LevelWarn, slog.LevelError},
		{"", slog.LevelDebug, slog.LevelInfo},
	} {
		for _, format := range []string{"text", "json"} {
			logger := (&LogSettings{LogLevel: c.configured, LogFormat: format}).Logger(c.least)
			require.True(t, logger.Enabled(t.Context(), c.want), "%v", c)
			require.False(t, logger.Enabled(t.Context(), c.want-1), "%v", c)
		}
	}
}

func TestWorkerSettingsNameTheFlag(t *testing.T) {
	t.Parallel()
	valid := func() *WorkerSettings { return &WorkerSettings{MaxInFlight: 1} }
	require.NoError(t, valid().Validate(), "retention 0 keeps everything")
	for flag, change := range map[string]func(*WorkerSettings){
		"--max-in-flight (POSTRIDER_MAX_IN_FLIGHT)":                   func(s *WorkerSettings) { s.MaxInFlight = 0 },
		"--max-in-flight-per-host (POSTRIDER_MAX_IN_FLIGHT_PER_HOST)": func(s *WorkerSettings) { s.MaxPerHost = -1 },
		"--retention (POSTRIDER_RETENTION)":                           func(s *WorkerSettings) { s.Retention = oneDay - 1 },
		"--audit-retention (POSTRIDER_AUDIT_RETENTION)":               func(s *WorkerSettings) { s.AuditRetention = oneDay - 1 },
		"--stats-retention (POSTRIDER_STATS_RETENTION)":               func(s *WorkerSettings) { s.StatsRetention = oneDay - 1 },
	} {
		s := valid()
		change(s)
		require.ErrorContains(t, s.Validate(), flag+": must ")
	}
}

func TestEgressSettingsNameTheFlagAndNoPassword(t *testing.T) {
	t.Parallel()
	require.NoError(t, (&Settings{AllowHosts: "hooks.corp,.internal.example", EgressProxy: "http://u:hush@proxy.corp:3128"}).Validate())
	for flag, s := range map[string]*Settings{
		"--allow-hosts (POSTRIDER_ALLOW_HOSTS): ":        {AllowHosts: "10.0.0.1"},
		"--egress-proxy (POSTRIDER_EGRESS_PROXY): must ": {EgressProxy: "socks5://u:hush@proxy.corp"},
	} {
		err := s.Validate()
		require.ErrorContains(t, err, flag)
		require.NotContains(t, err.Error(), "hush")
	}
}

func TestAPISettingsNameTheFlag(t *testing.T) {
	t.Parallel()
	require.NoError(t, (&APISettings{}).Validate())
	for flag, s := range map[string]*APISettings{
		"--drain-delay (POSTRIDER_DRAIN_DELAY)":                               {DrainDelay: -1},
		"--rate-limit-per-key (POSTRIDER_RATE_LIMIT_PER_KEY)":                 {RateLimitPerKey: -1},
		"--max-webhooks-per-workspace (POSTRIDER_MAX_WEBHOOKS_PER_WORKSPACE)": {MaxWebhooksPerWorkspace: -1},
	} {
		require.ErrorContains(t, s.Validate(), flag+": must ")
	}
}

func TestBuildIsTheWorkersVersion(t *testing.T) {
	t.Parallel()
	require.Equal(t, Version, new(DeploymentSettings).Build())
	require.Equal(t, "two", (&DeploymentSettings{BuildID: "two"}).Build())
}

func TestDatabaseURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "postgres://h/d", "postgresql://h/d", "sqlite:/tmp/x.db"} {
		require.NoError(t, CheckDatabaseURL(url), url)
	}
	for _, url := range []string{"mysql://user:password@h/d", "h/d", "sqlite3:x", "password"} {
		err := (&DatabaseSettings{DatabaseURL: url}).Validate()
		require.ErrorContains(t, err, "--database-url (POSTRIDER_DATABASE_URL): must start with postgres://")
		require.NotContains(t, err.Error(), "password")
	}
}

// TestBannerWarnsOfPrivateNetworks guards the text that a person reads first: it names the key's
// file, and the networks that a server on the internet must not deliver to.
func TestBannerWarnsOfPrivateNetworks(t *testing.T) {
	t.Parallel()
	addresses := endpoints{API: "http://127.0.0.1:8080", Metrics: "http://127.0.0.1:9464", TemporalUI: "http://127.0.0.1:8233"}
	s := &Server{apiKeyPath: "/data/api-key", role: Role{Networks: egress.StandaloneNetworks()}}
	text := s.banner(addresses)
	for _, part := range []string{
		"http://127.0.0.1:8080/docs", "http://127.0.0.1:9464/metrics", "http://127.0.0.1:8233", "$(cat /data/api-key)",
	} {
		require.Contains(t, text, part)
	}
	require.Contains(t, text, "these private networks: 127.0.0.0/8, ")
	s.role.Networks = []netip.Prefix{}
	require.NotContains(t, s.banner(addresses), "private networks")
	s.settings.AllowNetworks = "10.0.0.0/8"
	require.Contains(t, s.banner(addresses), "these private networks: 10.0.0.0/8\n")
}

func TestPauseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	Pause(ctx, time.Hour)
	require.Less(t, time.Since(began), time.Minute)
}
