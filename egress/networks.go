package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// noNetworks is the word for an empty list in [ParseNetworks].
const noNetworks = "none"

// ParseNetworks reads a comma-separated list of networks in CIDR notation, such as
// "127.0.0.0/8, fd00::/8". The word "none" and the empty text stand for an empty list. The error
// names the entry that is not a network.
func ParseNetworks(text string) ([]netip.Prefix, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == noNetworks {
		return nil, nil
	}
	var networks []netip.Prefix
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		network, err := netip.ParsePrefix(entry)
		if err != nil || network.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is not a network in CIDR notation, such as 10.0.0.0/8 or fd00::/8", entry)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// StandaloneNetworks returns the special networks that the standalone binary may deliver to by
// default: loopback and the private ranges (RFC 1918, RFC 4193), where receivers under
// development run.
func StandaloneNetworks() []netip.Prefix {
	return prefixes("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
}

// specialNetworks returns the networks that webhooks must not reach: the ranges that IANA's
// special-purpose registries (RFC 6890) call not globally reachable, multicast, IPv6 ranges whose
// addresses contain an IPv4 address, and all of IPv6 that is not global unicast (RFC 4291 section
// 2.4), which only a network of one's own can give a meaning.
func specialNetworks() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8",        // this network
		"10.0.0.0/8",       // private
		"100.64.0.0/10",    // shared by carriers
		"127.0.0.0/8",      // loopback
		"168.63.129.16/32", // Azure's host, which serves credentials, though the range is public
		"169.254.0.0/16",   // link-local, where clouds serve credentials
		"172.16.0.0/12",    // private
		"192.0.0.0/24",     // IETF protocol assignments
		"192.0.2.0/24",     // documentation
		"192.88.99.0/24",   // 6to4 relays
		"192.168.0.0/16",   // private
		"198.18.0.0/15",    // benchmarks
		"198.51.100.0/24",  // documentation
		"203.0.113.0/24",   // documentation
		"224.0.0.0/4",      // multicast
		"240.0.0.0/4",      // reserved, and 255.255.255.255

		"::/3",          // loopback, IPv4 in several forms, NAT64, discard
		"2001::/23",     // IETF protocol assignments: Teredo, benchmarks, ORCHID
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4
		"3fff::/20",     // documentation
		"4000::/2",      // segment routing (5f00::/16), the rest not assigned
		"8000::/1",      // private, link-local, site-local, multicast, the rest not assigned
	)
}

func prefixes(networks ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(networks))
	for i, network := range networks {
		parsed[i] = netip.MustParsePrefix(network)
	}
	return parsed
}

// guard decides which addresses may be delivered to.
type guard struct {
	special []netip.Prefix
	allowed []netip.Prefix // exceptions from special
	hosts   Hosts          // names with exceptions of their own, see [hostNetworks]
}

func newGuard(allowed []netip.Prefix) guard {
	return guard{special: specialNetworks(), allowed: allowed}
}

// permits reports whether a connection to the address may be made.
func (g guard) permits(addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	addr = addr.Unmap().WithZone("") // a prefix never contains mapped or zoned addresses
	if within(g.special, addr) && !within(g.allowed, addr) {
		return false
	}
	if inner, found := embedded(addr); found {
		return g.permits(inner)
	}
	return true
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// embedded returns the IPv4 address to which a NAT64 (RFC 6052) or 6to4 (RFC 3056) gateway would
// send a packet. An operator who allows such a range, to deliver from an IPv6-only network, does
// not want to allow 127.0.0.1 with it.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	raw := addr.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(addr):
		return netip.AddrFrom4([4]byte(raw[12:16])), true
	case netip.MustParsePrefix("2002::/16").Contains(addr):
		return netip.AddrFrom4([4]byte(raw[2:6])), true
	}
	return netip.Addr{}, false
}
