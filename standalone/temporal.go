package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"postrider.dev/postrider/server"
	"postrider.dev/postrider/standalone/embedded"
	"postrider.dev/postrider/workflows"
)

// workflowRetention is how long Temporal keeps a workflow after its end. The database keeps
// deliveries and attempts longer.
const workflowRetention = 72 * time.Hour

// TemporalSettings are the settings of the embedded Temporal server.
type TemporalSettings struct {
	DataDir          string `env:"POSTRIDER_DATA_DIR" default:".postrider" help:"Folder of the databases and keys; made when it is missing. One process at a time."`
	DatabaseURL      string `env:"POSTRIDER_DATABASE_URL" placeholder:"URL" help:"postgres://… URL of a database to use instead of SQLite; Temporal makes two of its own beside it, NAME_temporal and NAME_temporal_visibility. Prefer the environment to the flag: other users can see a command line."`
	TemporalListen   string `env:"POSTRIDER_TEMPORAL_LISTEN" default:"127.0.0.1:7233" help:"Address of the embedded Temporal server."`
	TemporalUIListen string `env:"POSTRIDER_TEMPORAL_UI_LISTEN" name:"temporal-ui-listen" default:"127.0.0.1:8233" help:"Address of Temporal's web interface."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (s *TemporalSettings) Validate() error {
	if strings.ContainsAny(s.DataDir, "?#%") { // Temporal puts its path into a URL as it is
		return errors.New("--data-dir (POSTRIDER_DATA_DIR): must not contain ?, # or %")
	}
	if s.TemporalListen == "" || s.TemporalUIListen == "" { // it would mean any port of every address
		return errors.New("--temporal-listen and --temporal-ui-listen: must be an address and a port, such as 127.0.0.1:0")
	}
	return server.CheckDatabaseURL(s.DatabaseURL)
}

// start starts the server by the settings. config has the values that are not settings.
func (s *TemporalSettings) start(ctx context.Context, config embedded.Config) (*embedded.Server, error) {
	config.Dir, config.FrontendListen, config.UIListen = s.DataDir, s.TemporalListen, s.TemporalUIListen
	config.Retention, config.SearchAttributes = workflowRetention, workflows.SearchAttributes()
	if strings.HasPrefix(s.DatabaseURL, "postgres") {
		config.DatabaseURL = s.DatabaseURL
	}
	started, err := embedded.Start(ctx, config)
	var taken *embedded.PortTakenError
	if errors.As(err, &taken) {
		if taken.Listener == embedded.ListenerUI {
			return nil, server.BindError("--temporal-ui-listen", "POSTRIDER_TEMPORAL_UI_LISTEN", taken.Address, err)
		}
		return nil, server.BindError("--temporal-listen", "POSTRIDER_TEMPORAL_LISTEN", taken.Address, err)
	}
	return started, err
}

// temporalCommand runs Temporal alone.
type temporalCommand struct {
	server.LogSettings
	TemporalSettings

	Bare bool `help:"Make no namespace, as a cluster of Temporal's own would not: 'postrider temporal setup' does."`
}

// Run implements the command.
func (c *temporalCommand) Run(ctx context.Context) error {
	logger := c.Logger(slog.LevelDebug)
	release, err := claimDataDir(ctx, c.DataDir, logger)
	if err != nil {
		return err
	}
	defer release()
	temporal, err := c.start(ctx, embedded.Config{Namespace: namespace, Bare: c.Bare, Logger: logger})
	if err != nil {
		return err
	}
	defer stopTemporal(ctx, temporal, logger)
	fmt.Printf("\nTemporal is ready.\n\n  Server         %s\n  Web interface  %s\n\n", temporal.FrontendAddress(), temporal.UIURL())
	if c.Bare {
		fmt.Printf("Next, in another terminal: POSTRIDER_TEMPORAL_ADDRESS=%s postrider temporal setup\n", temporal.FrontendAddress())
	}
	<-ctx.Done()
	return nil
}
