package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
)

// webUI serves Temporal's web UI. It uses the parts of the UI's server, and not that server: it
// would open its own listener, end the process when the port is taken, and keep a connection to
// the frontend after its stop.
type webUI struct {
	server *http.Server
	done   chan error // receives the result of Serve
}

const uiHeaderTimeout = 10 * time.Second

// startUI serves the web UI on the listener, which listens on the address of the configuration.
func startUI(l net.Listener, conn *grpc.ClientConn, cfg Config) (*webUI, error) {
	handler, err := uiHandler(conn, cfg.Namespace)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ListenerUI, err)
	}
	handler.Pre(localHostsOnly(cfg.UIListen))
	logger := cfg.Logger
	errorLog := slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	handler.Logger.SetOutput(errorLog.Writer())
	u := &webUI{
		server: &http.Server{Handler: handler, ReadHeaderTimeout: uiHeaderTimeout, ErrorLog: errorLog},
		done:   make(chan error, 1),
	}
	go func() { u.done <- u.server.Serve(l) }()
	return u, nil
}

// stop lets open requests end, until ctx is done.
func (u *webUI) stop(ctx context.Context) error {
	err := u.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, u.server.Close())
	}
	if served := <-u.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// uiHandler returns the pages and the API of the web UI.
func uiHandler(conn *grpc.ClientConn, namespace string) (*echo.Echo, error) {
	cfg, err := uiconfig.NewConfigProviderWithRefresh(&uiconfig.Config{
		TemporalGRPCAddress: conn.Target(),
		EnableUI:            true,
		DefaultNamespace:    namespace,
		DisableNewsFetch:    true, // it would connect to the internet
		Distribution:        "server",
		CORS:                uiconfig.CORS{CookieInsecure: true}, // served over plain HTTP
	})
	if err != nil {
		return nil, err
	}
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	local, err := fs.Sub(assets, "local")
	if err != nil {
		return nil, err
	}

	e := echo.New()
	// There is no CORS, because pages of other origins must not call the API.
	e.Use(middleware.Recover(), middleware.Gzip(), middleware.Secure(),
		csrf.EnsureTokenCookie(false), middleware.CSRFWithConfig(csrf.MiddlewareConfig(cfg, false)))

	forwarded := []api.Middleware{headers.WithForwardHeaders([]string{"Caller-Type"})}
	routes := e.Group("/api/v1")
	routes.GET("/settings", api.GetSettings(cfg))
	routes.GET("/ui-extensions", api.GetUIExtensions(cfg, api.TemporalAccessCheck(conn, forwarded)))
	routes.GET(api.WorkflowRawHistoryUrl, api.WorkflowRawHistoryHandler(workflowservice.NewWorkflowServiceClient(conn)))
	routes.Any("/*", api.TemporalAPIHandler(cfg, forwarded, conn))
	route.SetHealthRoute(e)
	route.SetRenderRoute(e, "/")
	if err := route.SetUIRoutes(e, "", local, cfg); err != nil {
		return nil, err
	}
	return e, nil
}
