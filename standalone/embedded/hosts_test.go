package embedded

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"
)

// Guards against pages of the internet that reach the web UI by DNS rebinding.
func TestOnlyLocalHostsReachTheUI(t *testing.T) {
	t.Parallel()
	for listen, hosts := range map[string]map[string]bool{
		"127.0.0.1:8233": {
			"127.0.0.1:8233": true, "127.0.0.1": true, "127.9.8.7:1": true, "localhost:8233": true, "LocalHost.": true, "[::1]:8233": true,
			"[::1]": true, "[::ffff:127.0.0.1]:8233": true,
			"": false, "evil.example:8233": false, "evil.example": false, "127.0.0.1.evil.example": false, "localhost.evil.example": false,
			"10.0.0.5:8233": false, "0.0.0.0:8233": false, "[::]:8233": false, "evil.example:8233:8233": false,
		},
		"10.0.0.5:8233":   {"10.0.0.5:8233": true, "10.0.0.5": true, "localhost": true, "10.0.0.6:8233": false, "evil.example": false},
		"ui.example:8233": {"ui.example:8233": true, "UI.example": true, "127.0.0.1": true, "evil.example": false, "10.0.0.5": false},
		"0.0.0.0:8233":    {"10.0.0.5:8233": true, "[2001:db8::1]:8233": true, "localhost": true, "evil.example": false, "": false},
		"[::]:8233":       {"10.0.0.5:8233": true, "evil.example": false},
		":8233":           {"10.0.0.5:8233": true, "evil.example": false},
	} {
		e := echo.New()
		e.Pre(localHostsOnly(listen))
		e.GET("/", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
		for host, allowed := range hosts {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			request.Host = host
			answer := httptest.NewRecorder()
			e.ServeHTTP(answer, request)
			want := http.StatusForbidden
			if allowed {
				want = http.StatusOK
			}
			require.Equal(t, want, answer.Code, "%q on %q", host, listen)
		}
	}
}
