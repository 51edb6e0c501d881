package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// HealthCommand asks a running process whether it is ready. Container images that have no
// other program use it as their health check.
type HealthCommand struct {
	MetricsListen string        `env:"POSTRIDER_METRICS_LISTEN" default:"127.0.0.1:9464" help:"Address of the process's metrics listener."`
	URL           string        `placeholder:"URL" help:"Ask this address instead, which must answer 2xx."`
	Timeout       time.Duration `default:"3s" help:"How long to wait for the answer."`
}

// Run implements the command.
func (c *HealthCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	url := c.URL
	if url == "" {
		url = "http://" + reachable(c.MetricsListen) + "/readyz"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	return nil
}

// reachable returns an address by which this machine reaches a listener: the loopback address
// for one that listens on all addresses.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}
