package egress

import (
	"crypto/tls"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxCertificates bounds how many hosts' certificates are remembered. More are not watched.
const maxCertificates = 10_000

// Certificate is when a receiver's certificate ends.
type Certificate struct {
	Host     string
	NotAfter time.Time
}

// certificates remembers when the certificates end that receivers have shown last.
type certificates struct {
	mu   sync.Mutex
	ends map[string]time.Time // by host
}

// note remembers the certificate of a handshake that has ended.
func (c *certificates) note(address string, state tls.ConnectionState, err error) {
	receiver, parseErr := url.Parse(address)
	if err != nil || parseErr != nil || len(state.PeerCertificates) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends == nil {
		c.ends = map[string]time.Time{}
	}
	if _, known := c.ends[receiver.Host]; known || len(c.ends) < maxCertificates {
		c.ends[receiver.Host] = state.PeerCertificates[0].NotAfter
	}
}

// Expiring returns the receivers whose certificates end within the time, by host. A receiver that
// has renewed its certificate is left out from its next handshake on, and one whose certificate has
// ended: attempts at it fail, which the history says.
func (c *Client) Expiring(within time.Duration) []Certificate {
	c.certificates.mu.Lock()
	defer c.certificates.mu.Unlock()
	now := c.now()
	maps.DeleteFunc(c.certificates.ends, func(_ string, end time.Time) bool { return !end.After(now) })
	var soon []Certificate
	for host, end := range c.certificates.ends {
		if end.Sub(now) < within {
			soon = append(soon, Certificate{host, end})
		}
	}
	slices.SortFunc(soon, func(a, b Certificate) int { return strings.Compare(a.Host, b.Host) })
	return soon
}
