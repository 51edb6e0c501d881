package embedded

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/labstack/echo/v4"
)

// localHostsOnly refuses requests for hosts that are not this machine. The web UI asks for no
// password, because only this machine reaches it. A page on the internet whose name is made to
// resolve to 127.0.0.1 (DNS rebinding) would reach it too, by the browser of somebody here, and the
// browser would let that page read the answers. Its requests name the page's own host.
//
// listen is the address that the UI listens on; its host is allowed too. A UI that listens on all
// addresses allows any address: a page cannot choose one as its name.
func localHostsOnly(listen string) echo.MiddlewareFunc {
	configured := hostOf(listen)
	address, err := netip.ParseAddr(configured)
	everywhere := configured == "" || err == nil && address.IsUnspecified()
	local := func(host string) bool {
		if address, err := netip.ParseAddr(host); err == nil {
			return everywhere || address.Unmap().IsLoopback() || host == configured
		}
		return host == "localhost" || host != "" && host == configured
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if !local(hostOf(c.Request().Host)) {
				return echo.NewHTTPError(http.StatusForbidden, "this server answers for its own machine only: use http://"+listen+" or localhost")
			}
			return next(c)
		}
	}
}

// hostOf returns the host of host:port or of a host alone, in lower case, without the brackets of an
// IPv6 address and without a name's final dot.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
