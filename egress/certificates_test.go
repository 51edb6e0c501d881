package egress_test

import (
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

func TestExpiringCertificatesAreFound(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		server := serveTLS(t, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
		receiver, err := url.Parse(server.URL)
		require.NoError(t, err)
		end := server.Certificate().NotAfter
		now := end.Add(-time.Hour)
		c := setup(t, trusting(server), func(c *egress.Config) { c.Now = func() time.Time { return now } })
		require.Empty(t, c.Expiring(2*time.Hour), "it is not known yet")
		require.Equal(t, postrider.ResultSuccess, c.post(t, server.URL, long).Result)
		require.Equal(t, []egress.Certificate{{Host: receiver.Host, NotAfter: end}}, c.Expiring(2*time.Hour))
		require.Empty(t, c.Expiring(time.Minute))
		now = end
		require.Empty(t, c.Expiring(2*time.Hour), "attempts at it fail by now")
	}
}
