package api

import "postrider.dev/postrider/api/rest"

// Routes returns every route that is served.
func Routes() []rest.Endpoint { return newServer(Config{}).rest.Endpoints() }
