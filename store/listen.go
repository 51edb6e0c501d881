package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/lib/pq"
)

// wakeChannel is PostgreSQL's notification channel by which processes tell each
// other that something became due.
const wakeChannel = "postrider_due"

// Waits of a listener whose connection was lost.
const (
	minReconnect = 100 * time.Millisecond
	maxReconnect = 5 * time.Second
)

// Listen makes [Store.Wake] tell also of what other processes made due, until ctx
// is done. It connects again by itself, and what was told meanwhile is found when
// it has. It always returns nil; on SQLite, which one process uses, it just waits.
func (s *Store) Listen(ctx context.Context) error {
	if !s.dialect.shared {
		<-ctx.Done()
		return nil
	}
	listener := pq.NewListener(s.address, minReconnect, maxReconnect, func(event pq.ListenerEventType, err error) {
		if err != nil && ctx.Err() == nil {
			s.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot listen for what other processes publish, trying again", slog.Any("error", failure("listen", err)))
		}
		if event == pq.ListenerEventReconnected {
			s.signal()
		}
	})
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	if err := listener.Listen(wakeChannel); err != nil && ctx.Err() == nil {
		return failure("listen", err)
	}
	for range listener.NotificationChannel() { // closed with the listener
		s.signal()
	}
	return nil
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
