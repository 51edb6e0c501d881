package egress

import (
	"fmt"
	"net/netip"
	"strings"
)

// Hosts are names that may resolve to private addresses: names as they are, and suffixes that begin with a dot.
type Hosts []string

// ParseHosts reads a comma-separated list of names and suffixes, such as "hooks.corp, .internal.example". The
// empty text stands for an empty list. The error names the entry that is neither.
func ParseHosts(text string) (Hosts, error) {
	var hosts Hosts
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		suffix, isSuffix := strings.CutPrefix(entry, ".")
		name, addr, err := parseHost(suffix)
		if err != nil || addr.IsValid() {
			return nil, fmt.Errorf("%q is not a host name, such as hooks.corp, or a suffix, such as .internal.example", entry)
		}
		if isSuffix {
			name = "." + name
		}
		hosts = append(hosts, name)
	}
	return hosts, nil
}

// has reports whether a name, as parseHost returns it, is one of the hosts or ends in one of the suffixes.
func (h Hosts) has(name string) bool {
	for _, host := range h {
		if host == name || host[0] == '.' && strings.HasSuffix(name, host) {
			return true
		}
	}
	return false
}

// hostNetworks returns the special networks that a name among [Hosts] may resolve to: loopback, the private
// ranges and the carriers'. A name is not the operator's alone, its name server answers for it; so nothing else
// that is special may be reached by one.
func hostNetworks() []netip.Prefix {
	return append(StandaloneNetworks(), netip.MustParsePrefix("100.64.0.0/10"))
}

// metadataNetworks returns addresses within [hostNetworks] where clouds serve credentials.
func metadataNetworks() []netip.Prefix {
	return prefixes(
		"100.100.100.200/32", // Alibaba
		"192.0.0.192/32",     // Oracle
		"fd00:ec2::254/128",  // Amazon
		"fd20:ce::254/128",   // Google
	)
}

// permitsHost reports whether a connection to an address of a name may be made. The name is "" for a URL that has
// the address itself.
func (g guard) permitsHost(name string, addr netip.Addr) bool {
	if g.permits(addr) {
		return true
	}
	addr = addr.Unmap().WithZone("")
	return name != "" && g.hosts.has(name) && within(hostNetworks(), addr) && !within(metadataNetworks(), addr)
}
