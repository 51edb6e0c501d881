package rest

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"postrider.dev/postrider"
)

// Config is what [New] needs. Fields are required unless they say otherwise.
type Config struct {
	Document Document
	// Authorize returns the API key that a caller sent, for a route that needs the scope. The
	// secret is "" if the caller sent no key. An error is the answer:
	// [postrider.CodeUnauthorized], [postrider.CodeForbidden], or the failure of a look-up.
	Authorize func(ctx context.Context, secret string, scope postrider.Scope) (postrider.APIKey, error)
	Now       func() time.Time
	// NewRequestID makes the id of a request that was sent without one.
	NewRequestID func() string
	Logger       *slog.Logger
	// Sensitive reports whether an error must not repeat the value that was sent at a
	// location, such as "body.secret". Optional.
	Sensitive func(location string, value any) bool
	// OnRequest is called about every request when it is over. Optional.
	OnRequest func(RequestSummary)
	// BodyMemory is how many bytes the bodies of all requests may take at once, from their first byte until
	// their requests are answered; what is more is a 503. Optional: 64 MiB, eight of the largest.
	BodyMemory int64
	// ReadTimeout is how long a GET may take from its authorization on; what takes longer is a 503. Optional: 5 s.
	ReadTimeout time.Duration
	// Stopping reports whether the process is about to end: connections are closed after their answers then, so
	// that callers change over to another process. Optional.
	Stopping func() bool
	// Tracer makes a span of every request. Optional: without it requests are not traced.
	Tracer trace.Tracer
}

const defaultReadTimeout = 5 * time.Second

// API is an HTTP API to which routes are added with [Handle], [HandleBody] and
// [API.HandleHTTP], all of them before the first request.
type API struct {
	Config
	engine *gin.Engine
	docs   huma.API
	intake intake
}

// New returns an API without routes.
func New(config Config) *API {
	if config.OnRequest == nil {
		config.OnRequest = func(RequestSummary) {}
	}
	if config.Sensitive == nil {
		config.Sensitive = func(string, any) bool { return false }
	}
	if config.Stopping == nil {
		config.Stopping = func() bool { return false }
	}
	if config.BodyMemory == 0 {
		config.BodyMemory = defaultBodyMemory
	}
	if config.ReadTimeout == 0 {
		config.ReadTimeout = defaultReadTimeout
	}
	gin.SetMode(gin.ReleaseMode) // the other modes print to the console
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	a := &API{Config: config, engine: engine, intake: intake{limit: config.BodyMemory}}
	engine.Use(a.logRequest)
	if a.Tracer != nil {
		engine.Use(a.trace)
	}
	engine.Use(a.recover)
	engine.NoRoute(func(c *gin.Context) {
		a.fail(c, &postrider.Error{Code: postrider.CodeNotFound, Message: "no such route"})
	})
	engine.NoMethod(func(c *gin.Context) {
		if allowed := c.Writer.Header().Get("Allow"); strings.Contains(allowed, http.MethodGet) {
			c.Header("Allow", allowed+", "+http.MethodHead)
		}
		a.fail(c, errMethodNotAllowed(c))
	})
	a.docs = humagin.New(engine, a.openAPIConfig())
	return a
}

// ServeHTTP implements [http.Handler]. It answers HEAD as it answers GET, and relies on net/http to send no body.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	this := &request{method: r.Method}
	r = r.WithContext(context.WithValue(r.Context(), requestContextKey{}, this))
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // of the copy
	}
	secure(w.Header())
	a.engine.ServeHTTP(w, r)
}

// HandleHTTP adds a GET route that needs no key, and describes it in the document.
func (a *API) HandleHTTP(operation *huma.Operation, handler http.Handler) {
	a.handleOpen(operation, gin.WrapH(handler))
}

// handleOpen adds a GET route that needs no key.
func (a *API) handleOpen(operation *huma.Operation, handler gin.HandlerFunc) {
	operation.Method, operation.Security = http.MethodGet, []map[string][]string{}
	a.docs.OpenAPI().AddOperation(operation)
	a.engine.GET(operation.Path, handler)
}

// Endpoint is a method and a path as the OpenAPI document spells it.
type Endpoint struct{ Method, Path string }

// Endpoints returns every route that is served.
func (a *API) Endpoints() []Endpoint {
	routes := a.engine.Routes()
	all := make([]Endpoint, len(routes))
	for i, r := range routes {
		all[i] = Endpoint{Method: r.Method, Path: documentPath(r.Path)}
	}
	return all
}

var ginParameter = regexp.MustCompile(`:(\w+)`)

// documentPath spells gin's path template as the OpenAPI document does.
func documentPath(ginPath string) string {
	if !strings.Contains(ginPath, ":") { // spares most requests the regular expression
		return ginPath
	}
	return ginParameter.ReplaceAllString(ginPath, "{$1}")
}
