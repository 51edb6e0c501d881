package rest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/api/rest"
)

// Guards the listeners that serve no API.
func TestSecureLeavesAHandlersOwnHeaders(t *testing.T) {
	t.Parallel()
	handler := rest.Secure(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Frame-Options", "SAMEORIGIN") }))
	got := httptest.NewRecorder()
	handler.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	require.Equal(t, "nosniff", got.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "SAMEORIGIN", got.Header().Get("X-Frame-Options"))
	require.Equal(t, "default-src 'none'; frame-ancestors 'none'", got.Header().Get("Content-Security-Policy"))
}
