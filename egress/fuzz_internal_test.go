package egress

import (
	"bytes"
	"cmp"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// FuzzURL checks any text as a URL and writes it as it would go out. What is checked is what is
// dialled, in one spelling that goes over every wire; and what is refused has no second spelling that
// is not.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{
		"http://127.0.0.1/", "https://example.com:8443/x?y#z", "http://[::1%25lo]/", "http://0x7f.1", "http://\u3002/",
		"https://B\u00fccher.test./a b?c=d e&f=%20", "http://[::ffff:7f00:1]:80", "http://\uff11\uff12\uff17.1", "https://my_host.x:443?'\"<>",
		"http://168.63.129.16/", "http://[4000::1]/", "http://2852039166/latest", "http://a.localhost:1", "https://xn--bcher-kva.test/\u00fc%zz",
		"https://example.com/a%2Fb c", "http://example.com/%", "http://EXAMPLE.com/;a=b?", "http://u@h/", "http://[fe80::1%25eth0]:65535/?\x7f",
	} {
		f.Add(seed)
	}
	g := newGuard(nil)
	f.Fuzz(func(t *testing.T, raw string) {
		refusal := g.checkURL(raw)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, raw, nil)
		if err != nil || normalise(r) != nil {
			require.Error(t, refusal, "it passed, and cannot be sent")
			return
		}
		written := r.URL.String()
		if refusal != nil {
			require.Error(t, g.checkURL(written), "%q was refused, and %q is not", raw, written)
			return
		}
		require.NoError(t, g.checkURL(written), written)
		again, err := http.NewRequestWithContext(t.Context(), http.MethodPost, written, nil)
		require.NoError(t, err)
		require.NoError(t, normalise(again))
		require.Equal(t, written, again.URL.String(), "one spelling")
		require.Equal(t, r.Host, again.Host)
		parsed, err := url.Parse(raw)
		require.NoError(t, err)
		require.Equal(t, parsed.Path, again.URL.Path)
		require.Equal(t, strings.Count(cmp.Or(parsed.RawPath, parsed.Path), "/"), strings.Count(again.URL.EscapedPath(), "/"))
		requireSendable(t, r)
	})
}

// requireSendable checks a request as it goes on the wire: its first lines have no byte that a strict
// server refuses, and its host is a permitted address or a name.
func requireSendable(t *testing.T, r *http.Request) {
	t.Helper()
	require.Equal(t, r.Host, r.URL.Host)
	name, addr, err := parseHost(r.URL.Hostname())
	require.NoError(t, err)
	if name == "" {
		require.True(t, newGuard(nil).permits(addr))
		require.True(t, addr.Unmap().Is4() || netip.MustParsePrefix("2000::/3").Contains(addr.WithZone("")), addr)
	}
	var sent bytes.Buffer
	require.NoError(t, r.Write(&sent))
	lines := strings.Split(sent.String(), "\r\n")
	for _, line := range []string{strings.TrimPrefix(lines[0], "POST "), strings.TrimPrefix(lines[1], "Host: ")} {
		line = strings.TrimSuffix(line, " HTTP/1.1")
		require.False(t, strings.ContainsFunc(line, func(c rune) bool { return c <= ' ' || c > '~' }), "%q", line)
	}
}

// FuzzAddress asks the guard about any address. In all forms it has one verdict, and a tunnel to it
// the same, or none.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"127.0.0.1", "8.8.8.8", "168.63.129.16", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:a00:1::", "2606:4700::1111", "fe80::1", "4000::",
	} {
		f.Add(netip.MustParseAddr(seed).AsSlice())
	}
	g := newGuard(nil)
	tunnelling := newGuard(prefixes("64:ff9b::/96", "2002::/16"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, valid := netip.AddrFromSlice(raw)
		permitted := g.permits(addr)
		if !valid {
			require.False(t, permitted)
			return
		}
		host := addr.String()
		if addr.Is6() {
			host = "[" + host + "]"
		}
		require.Equal(t, permitted, g.checkURL("http://"+host+"/") == nil)
		if !addr.Unmap().Is4() {
			return
		}
		v4 := addr.Unmap().As4()
		require.Equal(t, permitted, g.permits(netip.AddrFrom4(v4)))
		require.Equal(t, permitted, g.permits(netip.AddrFrom16(addr.As16())))
		for _, tunnel := range []netip.Addr{
			netip.AddrFrom16([16]byte{1: 0x64, 2: 0xff, 3: 0x9b, 12: v4[0], v4[1], v4[2], v4[3]}), // NAT64
			netip.AddrFrom16([16]byte{0x20, 0x02, v4[0], v4[1], v4[2], v4[3]}),                    // 6to4
		} {
			require.False(t, g.permits(tunnel))
			require.Equal(t, permitted, tunnelling.permits(tunnel))
		}
	})
}

// FuzzRetryAfter reads anything that a receiver sends as Retry-After. The wait is at most one hour
// and never less than none; numbers are seconds, and dates are read back.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"", "0", "120", " 7 ", "3601", "99999999999999999999", "-5", "1.5", "1e3", "soon", "Sat, 01 Aug 2026 12:01:30 GMT",
		"Saturday, 01-Aug-26 12:01:30 GMT", "Sat Aug  1 12:01:30 2026", "Sat, 01 Aug 0000 00:00:00 GMT", "\u0661\u0662",
	} {
		f.Add(seed, http.StatusServiceUnavailable, int64(90))
	}
	f.Add("5", http.StatusOK, int64(-90))
	f.Fuzz(func(t *testing.T, value string, status int, ahead int64) {
		now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
		wait := retryAfter(status, http.Header{"Retry-After": {value}}, now)
		require.GreaterOrEqual(t, wait, time.Duration(0))
		require.LessOrEqual(t, wait, postrider.MaxBackoff)
		if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
			require.Zero(t, wait)
			return
		}
		if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
			require.Equal(t, time.Duration(min(seconds, 3600))*time.Second, wait)
		}
		date := now.Add(time.Duration(ahead%(1<<20)) * time.Second)
		got := retryAfter(status, http.Header{"Retry-After": {date.Format(http.TimeFormat)}}, now)
		require.Equal(t, min(max(date.Sub(now), 0), postrider.MaxBackoff), got)
	})
}
