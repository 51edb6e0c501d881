package store

import (
	"context"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider/store/sqldb"
)

const (
	probeInterval = time.Second             // how long a probe's answer holds
	probeTimeout  = 1500 * time.Millisecond // shorter than readiness waits for its checks
	probeSize     = 16 << 10                // bytes; a full disk has no room for them
)

// probeRow is the row of the table write_probe.
type probeRow struct {
	ID     string
	Filler []byte
}

// writeProbe is what a process last learned of whether it can write.
type writeProbe struct {
	mu      sync.Mutex
	latest  *probe // nil before the first
	running sync.WaitGroup
}

// probe is one write.
type probe struct {
	begun time.Time
	done  chan struct{}
	err   error // when done is closed
}

// over reports whether the probe's answer is there, and too old to be given at the time.
func (p *probe) over(now time.Time) bool {
	select {
	case <-p.done:
		return now.Sub(p.begun).Abs() >= probeInterval
	default:
		return false
	}
}

// Writable returns an error unless the database takes writes: it may answer and be read-only, as
// a standby is, or its disk may be full. Writable makes a small write and undoes it. It does so
// once a second at most, and all who ask meanwhile get the same answer.
func (s *Store) Writable(ctx context.Context) error {
	p := s.latestProbe(ctx)
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return sqldb.Failure("probe writing", ctx.Err())
	}
}

// latestProbe returns the probe whose answer holds now. It may be under way.
func (s *Store) latestProbe(ctx context.Context) *probe {
	s.writes.mu.Lock()
	defer s.writes.mu.Unlock()
	now := s.now()
	if p := s.writes.latest; p != nil && !p.over(now) {
		return p
	}
	p := &probe{begun: now, done: make(chan struct{})}
	s.writes.latest = p
	s.writes.running.Go(func() {
		defer close(p.done)
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout) // others wait for it, too
		defer cancel()
		p.err = s.probe(bound)
	})
	return p
}

// probe replaces the row of write_probe. The new row is there before the old one goes, so that it
// needs room of its own; what the old one leaves is there for others.
func (s *Store) probe(ctx context.Context) error {
	return s.db.Write(ctx, "probe writing", func(tx *sqlx.Tx) error {
		row := probeRow{ID: s.IDs.New("probe"), Filler: make([]byte, probeSize)}
		if _, err := writeProbeTable.Insert(ctx, tx, row); err != nil {
			return err
		}
		return sqldb.SQL("DELETE FROM write_probe WHERE id <> ?", row.ID).Run(ctx, tx)
	})
}
