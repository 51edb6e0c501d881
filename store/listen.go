package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/lib/pq"
)

// PostgreSQL's notification channels, by which processes tell each other something.
const (
	wakeChannel   = "postrider_due"  // something became due
	revokeChannel = "postrider_keys" // an API key was revoked
)

// Waits of a listener whose connection was lost.
const (
	minReconnect = 100 * time.Millisecond
	maxReconnect = 5 * time.Second
)

// Listen makes [Store.Wake] and [Store.Revocations] tell also of what other processes
// did, until ctx is done. It connects again by itself, and what was told meanwhile is
// found when it has. It always returns nil; on SQLite, which one process uses, it just
// waits.
func (s *Store) Listen(ctx context.Context) error {
	if !s.dialect.shared {
		<-ctx.Done()
		return nil
	}
	listener := pq.NewListener(s.address, minReconnect, maxReconnect, func(event pq.ListenerEventType, err error) {
		if err != nil && ctx.Err() == nil {
			s.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot listen for what other processes do, trying again", slog.Any("error", failure("listen", err)))
		}
		if event == pq.ListenerEventReconnected {
			s.revocations.Add(1)
			s.signal()
		}
	})
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for _, channel := range []string{revokeChannel, wakeChannel} {
		if err := listener.Listen(channel); err != nil && ctx.Err() == nil {
			return failure("listen", err)
		}
	}
	for n := range listener.NotificationChannel() { // closed with the listener
		if n != nil && n.Channel == revokeChannel {
			s.revocations.Add(1)
		} else {
			s.signal()
		}
	}
	return nil
}

// Revocations is another number than before when this process knows that an API key
// was revoked since, which it learns at once while [Store.Listen] runs.
func (s *Store) Revocations() int64 { return s.revocations.Load() }

// revoked tells all processes that an API key was revoked. It is best effort.
func (s *Store) revoked(ctx context.Context) {
	s.revocations.Add(1)
	if !s.dialect.shared {
		return
	}
	if err := sqlOf("SELECT pg_notify(?, '')", revokeChannel).run(ctx, s.db); err != nil {
		s.Logger.LogAttrs(ctx, slog.LevelWarn, "other processes not told that an API key was revoked, they will ask within seconds", slog.Any("error", err))
	}
}

// notify tells the dispatchers of all processes that something became due.
func (s *Store) notify() {
	s.signal()
	if !s.dialect.shared {
		return
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// startNotifying starts what notify's news go to others by; quiet ends it.
func (s *Store) startNotifying(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.notifyOthers(ctx) })
	s.quiet = func() {
		cancel()
		running.Wait()
	}
}

// notifyTimeout bounds one notification.
const notifyTimeout = 5 * time.Second

// notifyOthers sends notifications, one for many, until ctx is done. They are best
// effort, and apart from the transactions that they tell of: commits of PostgreSQL
// transactions that notify wait for each other. Dispatchers poll as well.
func (s *Store) notifyOthers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		}
		bound, cancel := context.WithTimeout(ctx, notifyTimeout)
		err := sqlOf("SELECT pg_notify(?, '')", wakeChannel).run(bound, s.db)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.Logger.LogAttrs(ctx, slog.LevelDebug, "other processes not told, they will find it when they poll", slog.Any("error", err))
		}
	}
}
