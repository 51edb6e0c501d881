package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// The links of the layouts: who talks to whom.
const (
	linkPostgres          = "the process and PostgreSQL"
	linkReceivers         = "the process and receivers"
	linkAPIPostgres       = "the API and PostgreSQL"
	linkWorkersPostgres   = "workers and PostgreSQL"
	linkTemporalPostgres  = "Temporal and its PostgreSQL"
	linkWorkersTemporal   = "workers and Temporal"
	linkWorkersReceivers  = "workers and receivers"
	linkDelay             = 300 * time.Millisecond
	directions            = "upstream downstream"
	toxicDelay, toxicDrop = "latency", "timeout"
)

// linksOf returns the names of a layout's links.
func linksOf(layout string) []string {
	switch layout {
	case layoutSQLite:
		return []string{linkReceivers}
	case layoutPostgres:
		return []string{linkPostgres, linkReceivers}
	default:
		return []string{linkAPIPostgres, linkWorkersPostgres, linkTemporalPostgres, linkWorkersTemporal, linkWorkersReceivers}
	}
}

// receiversOf returns the name of a layout's link to the receivers.
func receiversOf(layout string) string {
	names := linksOf(layout)
	return names[len(names)-1]
}

// links are the proxies that all connections run through, by what they connect.
type links struct {
	server  *toxiproxy.ApiServer // only the proxies' metrics, which are off, are read of it
	proxies map[string][]*toxiproxy.Proxy
}

func newLinks() *links {
	return &links{
		server:  toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
		proxies: map[string][]*toxiproxy.Proxy{},
	}
}

// through returns an address that leads to another one, as a part of a link.
func (l *links) through(name, upstream string) (string, error) {
	proxy := toxiproxy.NewProxy(l.server, name, "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		return "", err
	}
	l.proxies[name] = append(l.proxies[name], proxy)
	return proxy.Listen, nil
}

// throughURL is through for the address in a URL.
func (l *links) throughURL(name, upstream string) (string, error) {
	u, err := url.Parse(upstream)
	if err != nil {
		return "", err
	}
	u.Host, err = l.through(name, u.Host)
	return u.String(), err
}

func (l *links) close() {
	for _, proxies := range l.proxies {
		for _, proxy := range proxies {
			proxy.Stop()
		}
	}
}

// cutLink closes a link's connections, and refuses new ones for a while.
func cutLink(name string, span time.Duration) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		for _, proxy := range c.links.proxies[name] {
			proxy.Stop()
		}
		pause(ctx, span)
		var failed error
		for _, proxy := range c.links.proxies[name] {
			failed = errors.Join(failed, proxy.Start())
		}
		return failed
	}
}

// delayLink makes everything on a link late, in both directions.
func delayLink(name string, span time.Duration) func(context.Context, *chaos) error {
	return poisonLink(name, toxicDelay, fmt.Sprintf(`{"latency": %d}`, linkDelay.Milliseconds()), span)
}

// dropLink loses what is on a link, and leaves the connections open: nobody hears of it. They are
// closed when that ends, since what was lost does not come again.
func dropLink(name string, span time.Duration) func(context.Context, *chaos) error {
	return poisonLink(name, toxicDrop, `{"timeout": 0}`, span)
}

// poisonLink gives a link one of toxiproxy's toxics for a while, in both directions.
func poisonLink(name, toxic, attributes string, span time.Duration) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		for _, proxy := range c.links.proxies[name] {
			for direction := range strings.FieldsSeq(directions) {
				document := fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": %s}`, toxic, direction, attributes)
				if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(document)); err != nil {
					return err
				}
			}
		}
		pause(ctx, span)
		for _, proxy := range c.links.proxies[name] {
			proxy.Toxics.ResetToxics(context.WithoutCancel(ctx))
		}
		return nil
	}
}
