package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/lib/pq"

	"postrider.dev/postrider/store/sqldb"
)

// PostgreSQL's notification channels, by which processes tell each other something.
const (
	wakeChannel   = "postrider_due"  // something became due
	revokeChannel = "postrider_keys" // an API key was revoked
	actChannel    = "postrider_acts" // an operator acted on a delivery or a replay
)

// How long a listener waits before it connects again.
const (
	minReconnect = 100 * time.Millisecond
	maxReconnect = 5 * time.Second
)

// Listen makes [Store.Wake] and [Store.Revocations] also report what other processes did,
// until ctx is done. It reconnects by itself, and wakes everybody afterwards because it may
// have missed notifications. On SQLite, which one process uses, it only waits.
func (s *Store) Listen(ctx context.Context) error {
	if !s.shared {
		<-ctx.Done()
		return nil
	}
	listener := pq.NewListener(s.db.Address, minReconnect, maxReconnect, func(event pq.ListenerEventType, err error) {
		if err != nil && ctx.Err() == nil {
			s.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot listen to other processes, will try again",
				slog.Any("error", sqldb.Failure("listen", err)))
		}
		if event == pq.ListenerEventReconnected {
			s.revocations.Add(1)
			s.wakeForActions()
		}
	})
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for _, channel := range []string{revokeChannel, actChannel, wakeChannel} {
		if err := listener.Listen(channel); err != nil && ctx.Err() == nil {
			return sqldb.Failure("listen", err)
		}
	}
	for n := range listener.NotificationChannel() { // closed with the listener
		switch {
		case n != nil && n.Channel == revokeChannel:
			s.revocations.Add(1)
		case n != nil && n.Channel == actChannel:
			s.wakeForActions()
		default:
			s.signal()
		}
	}
	return nil
}

// Revocations returns a number that changes when this process learns that an API key was
// revoked. While [Store.Listen] runs, it learns so at once.
func (s *Store) Revocations() int64 { return s.revocations.Load() }

// revoked tells all processes that an API key was revoked. A process that does not hear of
// it finds out within seconds.
func (s *Store) revoked(ctx context.Context) {
	s.revocations.Add(1)
	s.tellOthers(ctx, revokeChannel, "that an API key was revoked")
}

// acted wakes the dispatchers of all processes after an action: each may have something to do for
// it.
func (s *Store) acted(ctx context.Context) {
	s.wakeForActions()
	s.tellOthers(ctx, actChannel, "of an action")
}

// wakeForActions wakes all of this process's dispatchers that an action may concern.
func (s *Store) wakeForActions() {
	s.signal()
	signal(s.wakeRetries)
	signal(s.wakeNotices)
	signal(s.wakeReplays)
}

// tellOthers notifies the other processes of something rare; what says in the log what it is.
func (s *Store) tellOthers(ctx context.Context, channel, what string) {
	if !s.shared {
		return
	}
	if err := sqldb.SQL("SELECT pg_notify(?, '')", channel).Run(ctx, s.db.Writing); err != nil {
		s.Logger.LogAttrs(ctx, slog.LevelWarn,
			"could not tell other processes, they will find out within seconds", slog.String("what", what), slog.Any("error", err))
	}
}

// notify tells the dispatchers of all processes that something became due.
func (s *Store) notify() {
	s.signal()
	if !s.shared {
		return
	}
	select {
	case s.notifyRequests <- struct{}{}:
	default:
	}
}

// notifyIf is notify where something became due.
func (s *Store) notifyIf(due bool) {
	if due {
		s.notify()
	}
}

// startNotifying starts the goroutine that notifies other processes; stopNotifying ends it.
func (s *Store) startNotifying(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.notifyOthers(ctx) })
	s.stopNotifying = func() {
		cancel()
		running.Wait()
	}
}

// notifyTimeout bounds one notification.
const notifyTimeout = 5 * time.Second

// notifyOthers sends notifications, one for many, until ctx is done. They are not part of
// the transactions that they report, because commits of PostgreSQL transactions that notify
// wait for each other. A notification may be lost: dispatchers poll as well.
func (s *Store) notifyOthers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.notifyRequests:
		}
		bound, cancel := context.WithTimeout(ctx, notifyTimeout)
		err := sqldb.SQL("SELECT pg_notify(?, '')", wakeChannel).Run(bound, s.db.Writing)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.Logger.LogAttrs(ctx, slog.LevelDebug, "could not notify other processes, they will find the work when they poll",
				slog.Any("error", err))
		}
	}
}
