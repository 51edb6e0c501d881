package egress

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"postrider.dev/postrider"
)

// CheckURL returns an error with [postrider.CodeInvalid] when the URL alone shows that it must
// not be delivered to: it is not an http or https URL, has a user name, uses the port of another
// protocol, or its host is a special address, in any spelling, or a localhost name. The error's
// Message is the rule, such as "must not use the port of another protocol".
//
// Other names pass. Their addresses are checked at every connection.
func (c *Client) CheckURL(rawURL string) error {
	if err := c.guard.checkURL(rawURL); err != nil {
		return &postrider.Error{Code: postrider.CodeInvalid, Message: err.Error()}
	}
	return nil
}

// ruleError is a rule that a URL breaks, so that nothing is sent. Its text follows "the URL", and
// tells nothing about the internal network.
type ruleError string

func (e ruleError) Error() string { return string(e) }

// The rules.
const (
	errURL     ruleError = "must be a valid http:// or https:// URL"
	errUser    ruleError = "must not carry a user name or password"
	errHost    ruleError = "must have a valid host name or address"
	errPort    ruleError = "must not use the port of another protocol"
	errNoPort  ruleError = "must have a port from 1 to 65535, or none"
	errAddress ruleError = "must not point to a loopback, private or otherwise special address"
)

func (g guard) checkURL(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errURL
	}
	if u.User != nil {
		return errUser
	}
	if err := checkPort(u.Port()); err != nil {
		return err
	}
	name, addr, err := parseHost(u.Hostname())
	switch {
	case err != nil:
		return err
	case addr.IsValid() && !g.permits(addr):
		return errAddress
	case isLocalhost(name) && !g.hosts.has(name) && !g.permits(netip.AddrFrom4([4]byte{127, 0, 0, 1})) && !g.permits(netip.IPv6Loopback()):
		return errAddress
	}
	return nil
}

// normalise writes the request's URL as it goes on the wire: the host in ASCII, by which
// connections are pooled, too, and path and query percent-encoded (WHATWG URL Standard, "path state"
// and "query state"). What is encoded already stays as it is.
func normalise(r *http.Request) error {
	name, addr, err := parseHost(r.URL.Hostname())
	if err != nil {
		return err
	}
	host := name
	if addr.IsValid() {
		host = addr.String()
	}
	if port := r.URL.Port(); port != "" {
		host = net.JoinHostPort(host, port)
	} else if addr.Is6() {
		host = "[" + host + "]"
	}
	r.URL.Host, r.Host = host, host
	// Without a RawPath, net/url encodes the path. With one that is not encoded throughout, it
	// would encode the decoded path, in which an encoded slash is a slash.
	r.URL.RawPath = encode(r.URL.RawPath, notInPath)
	r.URL.RawQuery = encode(r.URL.RawQuery, notInQuery)
	return nil
}

// encode percent-encodes the bytes that a part of a URL may not have, and leaves the others.
func encode(part string, forbidden func(rune) bool) string {
	if !strings.ContainsFunc(part, forbidden) {
		return part
	}
	var encoded strings.Builder
	for i := range len(part) {
		if c := part[i]; forbidden(rune(c)) {
			fmt.Fprintf(&encoded, "%%%02X", c)
		} else {
			encoded.WriteByte(c)
		}
	}
	return encoded.String()
}

func notInQuery(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`"#'<>`, c) }

func notInPath(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("\"<>\\^`{|}", c) }

// isLocalhost reports whether RFC 6761 section 6.3 reserves the name for the local machine.
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// parseHost returns the host of a URL as an address, or as a name in lower case ASCII without
// the trailing dot.
//
// It reads every spelling of an IPv4 address that a resolver may accept (WHATWG URL Standard,
// "IPv4 parser"), so that 2130706433 and 0x7f.1 are recognised as addresses. As in that
// standard, a host that ends in a number and is not an address is an error.
func parseHost(host string) (name string, addr netip.Addr, err error) {
	if strings.Contains(host, ":") {
		if addr, err = netip.ParseAddr(host); err != nil {
			return "", netip.Addr{}, errHost
		}
		return "", addr, nil
	}
	ascii, err := idna.Lookup.ToASCII(strings.ToLower(host))
	if err != nil {
		// IDNA does not allow underscores, but names with underscores exist and resolve.
		if ascii = strings.ToLower(host); !plain(ascii) {
			return "", netip.Addr{}, errHost
		}
	}
	ascii = strings.TrimSuffix(ascii, ".")
	labels := strings.Split(ascii, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || !plain(label) {
			return "", netip.Addr{}, errHost
		}
	}
	if _, err := parseNumber(labels[len(labels)-1]); err == nil || digits(labels[len(labels)-1]) {
		addr, err := parseIPv4(labels)
		return "", addr, err
	}
	return ascii, netip.Addr{}, nil
}

// plain reports whether s has only characters that are used in DNS names.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
	})
}

// digits reports whether s has only decimal digits.
func digits(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
}

// parseIPv4 reads one to four numbers. The last one fills the remaining bytes.
func parseIPv4(parts []string) (netip.Addr, error) {
	if len(parts) > 4 {
		return netip.Addr{}, errHost
	}
	var value uint64
	for i, part := range parts {
		number, err := parseNumber(part)
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		if err != nil || number >= 1<<bits {
			return netip.Addr{}, errHost
		}
		value = value<<bits | number
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), nil
}

// parseNumber reads a decimal, octal (0…) or hexadecimal (0x…) number; 0x is 0.
func parseNumber(s string) (uint64, error) {
	if hex, found := strings.CutPrefix(s, "0x"); found {
		return strconv.ParseUint("0"+hex, 16, 64)
	}
	if octal, found := strings.CutPrefix(s, "0"); found && octal != "" {
		return strconv.ParseUint(octal, 8, 64)
	}
	return strconv.ParseUint(s, 10, 64)
}

// checkPort refuses port 0 and the ports of other protocols (Fetch Standard, "port blocking"),
// because some servers of these would execute commands in a POST's body. It accepts "".
func checkPort(text string) error {
	if text == "" {
		return nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return errNoPort
	}
	switch port {
	case 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104,
		109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526,
		530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045,
		4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080:
		return errPort
	}
	return nil
}
