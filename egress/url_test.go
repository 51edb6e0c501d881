package egress_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

// specialRanges has the first and the last address of every range that is refused.
func specialRanges() map[string][2]string {
	return map[string][2]string{
		"this network":    {"0.0.0.0", "0.255.255.255"},
		"private 10":      {"10.0.0.0", "10.255.255.255"},
		"carrier":         {"100.64.0.0", "100.127.255.255"},
		"loopback":        {"127.0.0.0", "127.255.255.255"},
		"link-local":      {"169.254.0.0", "169.254.255.255"},
		"private 172":     {"172.16.0.0", "172.31.255.255"},
		"IETF":            {"192.0.0.0", "192.0.0.255"},
		"documentation 1": {"192.0.2.0", "192.0.2.255"},
		"6to4 relays":     {"192.88.99.0", "192.88.99.255"},
		"private 192":     {"192.168.0.0", "192.168.255.255"},
		"benchmarks":      {"198.18.0.0", "198.19.255.255"},
		"documentation 2": {"198.51.100.0", "198.51.100.255"},
		"documentation 3": {"203.0.113.0", "203.0.113.255"},
		"multicast":       {"224.0.0.0", "239.255.255.255"},
		"reserved":        {"240.0.0.0", "255.255.255.254"},
		"broadcast":       {"255.255.255.255", "255.255.255.255"},
		"Azure's host":    {"168.63.129.16", "168.63.129.16"},

		"unspecified 6":         {"::", "::"},
		"loopback 6":            {"::1", "::1"},
		"IPv4-compatible":       {"::2", "::ffff:ffff"},
		"mapped loopback":       {"::ffff:127.0.0.1", "::ffff:127.0.0.1"},
		"mapped cloud metadata": {"::ffff:169.254.169.254", "::ffff:a9fe:a9fe"},
		"mapped private":        {"::ffff:10.0.0.0", "::ffff:10.255.255.255"},
		"IPv4-translated":       {"::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"},
		"NAT64":                 {"64:ff9b::", "64:ff9b::ffff:ffff"},
		"NAT64 of a site":       {"64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"},
		"discard":               {"100::", "100::ffff:ffff:ffff:ffff"},
		"below global unicast":  {"100:0:0:1::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"IETF 6":                {"2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"Teredo":                {"2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"},
		"documentation 6":       {"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
		"6to4":                  {"2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"documentation 6, new":  {"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"above global unicast":  {"4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"segment routing":       {"5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"private 6":             {"fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"link-local 6":          {"fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"zoned link-local":      {"fe80::1%25eth0", "fe80::1%25lo"},
		"site-local":            {"fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"multicast 6":           {"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	}
}

func urlOf(addr string) string {
	for _, c := range addr {
		if c == ':' {
			return "https://[" + addr + "]/hook"
		}
	}
	return "https://" + addr + "/hook"
}

func nothingAllowed(c *egress.Config) { c.AllowNetworks = nil }

func TestCheckURLRefusesSpecialAddresses(t *testing.T) {
	t.Parallel()
	client := setup(t, nothingAllowed)
	for name, addrs := range specialRanges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, addr := range addrs {
				err := client.CheckURL(urlOf(addr))
				require.Equal(t, postrider.CodeInvalid, postrider.CodeOf(err), addr)
				require.NotContains(t, err.Error(), addr+" ")
			}
		})
	}
}

func TestCheckURLPasses(t *testing.T) {
	t.Parallel()
	client := setup(t, nothingAllowed)
	for _, url := range []string{
		"https://example.com/hooks?key=1", "http://example.com:8080/", "https://EXAMPLE.com./", "https://my_host.example.com/",
		"https://bücher.example/", "https://xn--bcher-kva.example/", "https://a-.example.com/", "https://x0.example/", "https://1.example/",
		"https://localhost.example.com/", "https://notlocalhost/", "https://example.com:443/", "https://example.com:/",
		"https://8.8.8.8/", "https://134744072/", "https://0x8.8.010.8/", "https://[2606:4700:4700::1111]/", "https://[::ffff:8.8.8.8]/",
		// The neighbours of refused ranges.
		"http://9.255.255.255/", "http://11.0.0.0/", "http://100.63.255.255/", "http://100.128.0.0/", "http://126.255.255.255/",
		"http://128.0.0.0/", "http://169.253.255.255/", "http://169.255.0.0/", "http://172.15.255.255/", "http://172.32.0.0/",
		"http://192.0.1.0/", "http://192.0.3.0/", "http://192.167.255.255/", "http://192.169.0.0/", "http://198.17.255.255/",
		"http://198.20.0.0/", "http://223.255.255.255/", "http://[2001:200::]/", "http://[2003::]/", "http://[2000::]/",
		"http://168.63.129.15/", "http://168.63.129.17/", "http://[2001:db7::]/", "http://[2001:db9::]/", "http://[3ffe::]/",
		"http://[3fff:1000::]/",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, client.CheckURL(url))
		})
	}
}

func TestCheckURLRefuses(t *testing.T) {
	t.Parallel()
	client := setup(t, nothingAllowed)
	for url, rule := range map[string]string{
		"http://2130706433/":               "special address",
		"http://017700000001/":             "special address",
		"http://0x7f000001/":               "special address",
		"http://0x7f.1/":                   "special address",
		"http://0X7F.1/":                   "special address",
		"http://127.1/":                    "special address",
		"http://127.0.1/":                  "special address",
		"http://0177.0.0.01/":              "special address",
		"http://127.0.0.1./":               "special address",
		"http://0/":                        "special address",
		"http://0x/":                       "special address",
		"http://2852039166/latest/":        "special address",
		"http://169.254.43518/":            "special address",
		"http://127.0.0.1/":                "special address",
		"http://127\u30020\u30020\u30021/": "special address", // ideographic full stops
		"http://\uff11\uff12\uff17.0.0.1/": "special address", // full-width digits
		"http://\u2460\u2461\u2466.0.0.1/": "special address", // circled digits
		"http://\uff4cocalhos\uff54/":      "special address", // full-width letters
		"http://[::ffff:7f00:1]/":          "special address",
		"http://[0:0:0:0:0:0:0:1]:8080/":   "special address",
		"http://localhost/":                "special address",
		"http://LOCALHOST:8080/":           "special address",
		"http://localhost./":               "special address",
		"http://api.localhost/":            "special address",
		"http://127.0.0.1.1/":              "valid host",
		"http://256.1.1.1/":                "valid host",
		"http://1.2.3.08/":                 "valid host",
		"http://4294967296/":               "valid host",
		"http://99999999999999999999/":     "valid host",
		"http://example.1/":                "valid host",
		"http://1..2/":                     "valid host",
		"http://example..com/":             "valid host",
		"http://example.com../":            "valid host",
		"http://.example.com/":             "valid host",
		"http://./":                        "valid host",
		"http://:80/":                      "valid host",
		"http://[1::2::3]/":                "valid http",
		"http://exa\u00admple.com:99999/":  "port from 1",
		"http://exam!ple.com/":             "valid host",
		"http://-\u0301.com/":              "valid host",
		"http://user@example.com/":         "user name",
		"http://user:hunter2@example.com/": "user name",
		"http://example.com@127.0.0.1/":    "user name",
		"http://example.com:0/":            "port from 1",
		"http://example.com:22/":           "port",
		"http://example.com:025/":          "port",
		"http://example.com:6379abc/":      "valid http",
		"http://example.com\\@127.0.0.1/":  "valid http",
		"http://exam ple.com/":             "valid http",
		"http://127.0.0.1%00.example.com/": "valid http",
		"ftp://example.com/":               "valid http",
		"//example.com/":                   "valid http",
		"example.com":                      "valid http",
		"http:example.com":                 "valid http",
		"http://":                          "valid http",
		"":                                 "valid http",
		"javascript:alert(1)":              "valid http",
		"http://[::1/":                     "valid http",
		"http://example.com/\x7f":          "valid http",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			err := client.CheckURL(url)
			var broken *postrider.Error
			require.ErrorAs(t, err, &broken)
			require.Equal(t, postrider.CodeInvalid, broken.Code)
			require.Contains(t, broken.Message, rule)
			require.NotContains(t, broken.Error(), marker)
		})
	}
}

func TestAllowedNetworksPass(t *testing.T) {
	t.Parallel()
	allowing := func(text string) bundle {
		networks, err := egress.ParseNetworks(text)
		require.NoError(t, err)
		return setup(t, func(c *egress.Config) { c.AllowNetworks = networks })
	}
	for _, c := range []struct {
		networks, url string
		passes        bool
	}{
		{"127.0.0.0/8", "http://127.0.0.1/", true},
		{"127.0.0.0/8", "http://2130706433/", true},
		{"127.0.0.0/8", "http://[::ffff:127.0.0.1]/", true},
		{"127.0.0.0/8", "http://localhost:3000/", true},
		{"::1/128", "http://localhost:3000/", true},
		{"10.0.0.0/8", "http://localhost:3000/", false},
		{"127.0.0.0/8", "http://10.0.0.1/", false},
		{"fd00::/8", "http://[fd12::1]/", true},
		{"fe80::/10", "http://[fe80::1%25eth0]/", true},
		{"0.0.0.0/0", "http://169.254.169.254/", true},
		{"0.0.0.0/0", "http://127.0.0.1:22/", false},
		// Who allows NAT64 does not allow what lies behind it.
		{"64:ff9b::/96", "http://[64:ff9b::808:808]/", true},
		{"64:ff9b::/96", "http://[64:ff9b::7f00:1]/", false},
		{"64:ff9b::/96, 127.0.0.0/8", "http://[64:ff9b::7f00:1]/", true},
		{"168.63.129.16/32", "http://168.63.129.16/", true},
		{"4000::/16", "http://[4000::1]/", true},
		{"4000::/16", "http://[4001::1]/", false},
		{"2002::/16", "http://[2002:808:808::1]/", true},
		{"2002::/16", "http://[2002:a00:1::1]/", false},
	} {
		t.Run(c.networks+" "+c.url, func(t *testing.T) {
			t.Parallel()
			err := allowing(c.networks).CheckURL(c.url)
			require.Equal(t, c.passes, err == nil)
		})
	}
}

func TestParseNetworks(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                              nil,
		"none":                          nil,
		" none ":                        nil,
		"10.0.0.0/8":                    {"10.0.0.0/8"},
		"10.1.2.3/8, ::1/128,fd00::/8 ": {"10.0.0.0/8", "::1/128", "fd00::/8"},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			networks, err := egress.ParseNetworks(text)
			require.NoError(t, err)
			var got []string
			for _, network := range networks {
				got = append(got, network.String())
			}
			require.Equal(t, want, got)
		})
	}
	for _, text := range []string{
		"10.0.0.1", "10.0.0.0/33", "localhost", "none,10.0.0.0/8", "10.0.0.0/8,", "::ffff:10.0.0.0/104", "fe80::%eth0/64",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := egress.ParseNetworks(text)
			require.ErrorContains(t, err, "CIDR")
		})
	}
}

func TestStandaloneNetworks(t *testing.T) {
	t.Parallel()
	client := setup(t, func(c *egress.Config) { c.AllowNetworks = egress.StandaloneNetworks() })
	for _, addr := range []string{"127.0.0.1", "::1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "fd00::1"} {
		require.NoError(t, client.CheckURL(urlOf(addr)), addr)
	}
	for _, addr := range []string{"169.254.169.254", "0.0.0.0", "100.64.0.1", "fe80::1", "224.0.0.1"} {
		require.Error(t, client.CheckURL(urlOf(addr)), addr)
	}
}

// However an address is written, the verdict is the same.
func TestSpellingDoesNotMatter(t *testing.T) {
	t.Parallel()
	client := setup(t, nothingAllowed)
	spellings := []func(b [4]byte) string{
		func(b [4]byte) string { return fmt.Sprintf("%d.%d.%d.%d.", b[0], b[1], b[2], b[3]) },
		func(b [4]byte) string { return fmt.Sprintf("0x%x.%d.0%o.0X%X", b[0], b[1], b[2], b[3]) },
		func(b [4]byte) string { return fmt.Sprintf("%d.%d.%d", b[0], b[1], int(b[2])<<8|int(b[3])) },
		func(b [4]byte) string { return fmt.Sprintf("0%o.0x%x", b[0], int(b[1])<<16|int(b[2])<<8|int(b[3])) },
		func(b [4]byte) string { return strconv.Itoa(int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])) },
		func(b [4]byte) string { return fmt.Sprintf("[::ffff:%d.%d.%d.%d]", b[0], b[1], b[2], b[3]) },
		func(b [4]byte) string {
			return fmt.Sprintf("[::ffff:%x:%x]", int(b[0])<<8|int(b[1]), int(b[2])<<8|int(b[3]))
		},
	}
	rapid.Check(t, func(t *rapid.T) {
		var b [4]byte
		for i := range b {
			b[i] = rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0, 10, 127, 169, 172, 192, 254, 255})).Draw(t, "byte")
		}
		spelling := rapid.SampledFrom(spellings).Draw(t, "spelling")(b)
		plain := client.CheckURL("http://" + netip.AddrFrom4(b).String() + "/")
		require.Equal(t, plain == nil, client.CheckURL("http://"+spelling+"/") == nil, spelling)
	})
}
