package main

import (
	"context"
	"net/url"
	"time"
)

// The links of the layouts: who talks to whom.
const (
	linkPostgres         = "the process and PostgreSQL"
	linkReceivers        = "the process and receivers"
	linkAPIPostgres      = "the API and PostgreSQL"
	linkWorkersPostgres  = "workers and PostgreSQL"
	linkTemporalPostgres = "Temporal and its PostgreSQL"
	linkWorkersTemporal  = "workers and Temporal"
	linkWorkersReceivers = "workers and receivers"
)

// linksOf returns the names of a layout's links. The last is the one to the receivers.
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

// links are the proxies that connections run through, by the names of links.
type links map[string][]*proxy

// through returns an address that leads to another one, as a part of a link.
func (l links) through(ctx context.Context, name, upstream string) (string, error) {
	p, err := newProxy(ctx, upstream)
	if err != nil {
		return "", err
	}
	l[name] = append(l[name], p)
	return p.listener.Addr().String(), nil
}

// throughURL is through for the address in a URL.
func (l links) throughURL(ctx context.Context, name, upstream string) (string, error) {
	u, err := url.Parse(upstream)
	if err != nil {
		return "", err
	}
	u.Host, err = l.through(ctx, name, u.Host)
	return u.String(), err
}

func (l links) set(name string, h harm) {
	for _, p := range l[name] {
		p.set(h)
	}
}

func (l links) close() {
	for _, proxies := range l {
		for _, p := range proxies {
			p.close()
		}
	}
}

// harmLink harms a link's connections for a while.
func harmLink(name string, h harm, span time.Duration) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		c.links.set(name, h)
		pause(ctx, span)
		c.links.set(name, noHarm)
		return nil
	}
}
