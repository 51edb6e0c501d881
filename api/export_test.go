package api

// Route is a method and a path as the OpenAPI document spells it.
type Route struct{ Method, Path string }

// Routes returns every route that is served.
func Routes() []Route {
	var routes []Route
	for _, r := range newEngine(Config{}).Routes() {
		routes = append(routes, Route{Method: r.Method, Path: ginParameter.ReplaceAllString(r.Path, "{$1}")})
	}
	return routes
}
