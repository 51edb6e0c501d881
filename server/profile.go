package server

import (
	"errors"
	"net"
	"net/http"
	"net/http/pprof" // it also registers its handlers on http.DefaultServeMux, which is not served
	"net/netip"
	"strings"
)

// ProfileSettings say whether a process can be profiled.
type ProfileSettings struct {
	ProfileListen string `env:"POSTRIDER_PROFILE_LISTEN" placeholder:"ADDRESS" help:"Loopback address of Go's profiles, http://ADDRESS/debug/pprof/. Port 0 picks a free one. Default: none; a profile slows the process down while it is taken."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (s *ProfileSettings) Validate() error {
	if s.ProfileListen == "" {
		return nil
	}
	address, err := netip.ParseAddrPort(s.ProfileListen)
	if err != nil || !address.Addr().IsLoopback() {
		return errors.New("--profile-listen (POSTRIDER_PROFILE_LISTEN): must be a loopback address and a port, such as 127.0.0.1:6060, " +
			"because reading profiles needs no key")
	}
	return nil
}

// profileHandler serves the profiles of net/http/pprof, without the command line, which may
// hold a password. It answers for hosts of this machine alone: profiles ask for no key, and a page of
// the internet whose name is made to resolve to 127.0.0.1 (DNS rebinding) names its own host.
func profileHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(r.Host) {
			http.Error(w, "profiles are for this machine only: use 127.0.0.1 or localhost", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// loopback reports whether a request's Host, with or without a port, is this machine by every
// browser's understanding.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && address.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
