package egress

import (
	"container/list"
	"crypto/tls"
	"errors"
	"net/http"
	"sync"

	"postrider.dev/postrider"
)

// Limits of the transports of webhooks with TLS material of their own.
const (
	maxOwn      = 256 // more are closed, the least recently used first
	ownIdle     = 32  // idle connections of each
	ownSessions = 16  // of TLS, of each
)

// errOwnTLS says that TLS material is not what it was when the webhook took it.
var errOwnTLS = errors.New("TLS: the webhook's own certificate, key or ca cannot be used")

// material is TLS material that can be compared.
type material struct{ certificate, key, authorities string }

func materialOf(own *postrider.WebhookTLS) material {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	return material{text(own.ClientCertificate), text(own.ClientKey), text(own.CA)}
}

// ownTransports are the transports of webhooks with TLS material of their own, one for each material:
// a connection proves to the receiver who sends, and was made to whom the authorities vouch for, so no
// webhook with other material may get it. Nor its TLS sessions, which stand for both.
type ownTransports struct {
	mu    sync.Mutex
	known map[material]*list.Element
	used  list.List // of ownTransport, the latest first
}

type ownTransport struct {
	material  material
	transport *http.Transport
}

// transportOf returns the transport for requests with such TLS material, nil for none.
func (c *Client) transportOf(own *postrider.WebhookTLS) (*http.Transport, error) {
	if own == nil {
		return c.transport, nil
	}
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	wanted := materialOf(own)
	if found := c.own.known[wanted]; found != nil {
		c.own.used.MoveToFront(found)
		return transportIn(found), nil
	}
	transport, err := c.newOwn(own)
	if err == nil {
		c.own.keep(ownTransport{wanted, transport})
	}
	return transport, err
}

// newOwn returns a transport that differs from that of all others in its TLS material alone.
func (c *Client) newOwn(own *postrider.WebhookTLS) (*http.Transport, error) {
	certificate, authorities, broken := own.Parse()
	if len(broken) > 0 {
		return nil, errOwnTLS
	}
	transport := c.transport.Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = ownIdle, ownIdle
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(ownSessions)
	if authorities != nil {
		transport.TLSClientConfig.RootCAs = authorities
	}
	if certificate != nil {
		transport.TLSClientConfig.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			noteWanted(asked, true)
			return certificate, nil
		}
	}
	return transport, nil
}

// keep adds a transport, and gives up the one that was not used for the longest time where there are
// too many. Requests under way on that one end as they end.
func (o *ownTransports) keep(added ownTransport) {
	if o.known == nil {
		o.known = map[material]*list.Element{}
	}
	o.known[added.material] = o.used.PushFront(added)
	if len(o.known) <= maxOwn {
		return
	}
	oldest := o.used.Back()
	given := o.used.Remove(oldest).(ownTransport) //nolint:errcheck,forcetypeassert // nothing else is in it
	delete(o.known, given.material)
	given.transport.CloseIdleConnections()
}

func (o *ownTransports) closeIdle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.known {
		transportIn(e).CloseIdleConnections()
	}
}

func transportIn(e *list.Element) *http.Transport {
	return e.Value.(ownTransport).transport //nolint:errcheck,forcetypeassert // nothing else is in it
}
