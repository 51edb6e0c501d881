package api

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"postrider.dev/postrider"
)

// server holds what the handlers share.
type server struct {
	Config
	keys *keyring
	docs huma.API
}

// New returns the API's handler. It serves everything under /api/v1, the health
// routes, the OpenAPI document and the reference page.
func New(config Config) http.Handler { return newEngine(config) }

func newEngine(config Config) *gin.Engine {
	if config.OnAccepted == nil {
		config.OnAccepted = func(int, int) {}
	}
	if config.OnRequest == nil {
		config.OnRequest = func(RequestSummary) {}
	}
	gin.SetMode(gin.ReleaseMode) // the other modes print to the console
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	s := &server{Config: config, keys: newKeyring(config.Store, config.Now, config.Logger)}
	engine.Use(s.record)
	if s.Tracer != nil {
		engine.Use(s.trace)
	}
	engine.Use(s.recover)
	engine.NoRoute(func(c *gin.Context) {
		s.fail(c, &postrider.Error{Code: postrider.CodeNotFound, Message: "no such route"})
	})
	engine.NoMethod(func(c *gin.Context) { s.fail(c, errMethodNotAllowed(c)) })

	s.docs = humagin.New(engine, openAPIConfig(config.Version))
	s.routeWebhooks()
	s.routeSecrets()
	s.routeAdmin()
	s.routeEvents()
	s.routeDeliveries()
	s.routeHealth(engine)
	s.routeReference(engine)
	return engine
}

var ginParameter = regexp.MustCompile(`:(\w+)`)

// routeName returns the template of the route that matched, spelled as in the
// OpenAPI document; "" when none did.
func routeName(c *gin.Context) string {
	path := c.FullPath()
	if !strings.Contains(path, ":") { // spares most requests the regular expression
		return path
	}
	return ginParameter.ReplaceAllString(path, "{$1}")
}
