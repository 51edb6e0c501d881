package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
)

// TestDashboards guards dashboards and recording rules against queries that answer nothing: a real
// Prometheus scrapes a process under a load with failures, and every query gets a number.
func TestDashboards(t *testing.T) {
	t.Parallel()
	i := startWith(t, t.TempDir(), nil)
	fine, _ := answering(t, http.StatusOK)
	failing, _ := answering(t, http.StatusBadGateway)
	webhook(t, i, fine, map[string]any{"events": []string{"load.*"}})
	// Two retries: the first one may begin in its workflow's worker at once, without a schedule to measure.
	webhook(t, i, failing, map[string]any{"events": []string{"load.*"}, "max_retries": 2, "backoff_ms": 200})
	prometheus := startPrometheus(t, i)

	unanswered := dashboardQueries(t)
	require.Greater(t, len(unanswered), 20)
	events := make([]map[string]any, 20)
	for n := range events {
		events[n] = map[string]any{"type": "load.one", "data": n}
	}
	require.Eventually(t, func() bool {
		require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, nil))
		var left []string
		for _, query := range unanswered {
			if !answers(t, prometheus, query) {
				left = append(left, query)
			}
		}
		unanswered = left
		return len(unanswered) == 0
	}, 2*patience, time.Second, "a query without an answer: %q", &unanswered)
}

// dashboardQueries returns the queries of all panels, and the names of recording rules.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var queries []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var dashboard struct {
			Panels []struct {
				Targets []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(text, &dashboard))
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				queries = append(queries, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"))
			}
		}
	}
	for _, rule := range regexp.MustCompile(`record: (\S+)`).FindAllStringSubmatch(rules(t), -1) {
		queries = append(queries, rule[1])
	}
	return queries
}

func rules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/rules.yml")
	require.NoError(t, err)
	return string(text)
}

// answers reports whether a query has a number for an answer.
func answers(t *testing.T, prometheus, query string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, prometheus+"/api/v1/query?query="+url.QueryEscape(query), nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false // it is starting
	}
	defer func() { require.NoError(t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any }
		}
	}
	if response.StatusCode == http.StatusServiceUnavailable {
		return false
	}
	require.NoError(t, json.Unmarshal(text, &answer), "%s", text)
	require.Empty(t, answer.Error, query)
	for _, sample := range answer.Data.Result {
		if sample.Value[1] != "NaN" {
			return true
		}
	}
	return false
}

// startPrometheus runs Prometheus on the rules of deploy/, evaluated each second, and returns its
// address.
func startPrometheus(t *testing.T, i *instance.Instance) string {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	require.NoError(t, err, "it is Debian's package prometheus, which .ci/run installs")
	dir := t.TempDir()
	quick := regexp.MustCompile("(?m)^ +interval: .*\n").ReplaceAllString(rules(t), "")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(quick), 0o600))
	config := "global: { scrape_interval: 1s, evaluation_interval: 1s }\nrule_files: [rules.yml]\n" +
		"scrape_configs: [{ job_name: postrider, static_configs: [{ targets: ['" + strings.TrimPrefix(i.Metrics, "http://") + "'] }] }]\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	command := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		require.NoError(t, command.Process.Kill())
		_ = command.Wait() // it was killed
	})
	return "http://" + address
}
