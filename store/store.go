package store

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/catalogue"
	"postrider.dev/postrider/shaping"
	"postrider.dev/postrider/store/sqldb"
)

// Options are what a Store needs beside its database; those up to Logger are required.
type Options struct {
	Keys   *Keyring
	Now    func() time.Time
	IDs    *postrider.IDs
	Logger *slog.Logger
	// Alone says that no other process delivers or serves from the database, so the store
	// notifies no other process.
	Alone bool
	// OnCancelled is told how many deliveries a transaction has made cancelled, after its commit.
	OnCancelled func(deliveries int)
	// MaxWebhooks is how many webhooks a workspace may have; 0 sets no limit.
	MaxWebhooks int
	// OnExpired is told how many deliveries a transaction has made failed because they expired.
	OnExpired func(deliveries int)
	// Breaker is when circuits open, and how they close; its zero value stands for the default.
	Breaker postrider.Breaker
	// Random gives numbers from 0 to 1, for jitter. Without it there is none.
	Random func() float64
	// OnReplayEnded is told of each replay job that a transaction has ended.
	OnReplayEnded func(postrider.ReplayState)
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	Options
	db     *sqldb.DB
	shared bool // other processes may use the database at the same time
	// process is a name of this process's own, by which it counts, see [rollups.add].
	process string

	publishing  *sqldb.Group[publication, []postrider.Receipt]
	recording   *sqldb.Group[[]postrider.Outcome, struct{}]
	permitting  *sqldb.Group[postrider.PermitRequest, postrider.Permit]
	wake        chan struct{}
	wakeRetries chan struct{}
	wakeSweeps  chan struct{}
	wakeFanOuts chan struct{}
	wakeNotices chan struct{}
	wakeReplays chan struct{}

	notifyRequests chan struct{} // for the goroutine that notifies other processes
	stopNotifying  func()        // ends it
	revocations    atomic.Int64
	recovered      atomic.Int64

	shaper          *shaping.Shaper
	judging         chan struct{} // a token for each publication whose filters or schemas are evaluated
	writes          writeProbe
	matches         matchCache
	rules           ruleCache
	schemas         catalogue.Schemas
	starts, retries rounds   // where the latest claims ended
	laneTurn        struct { // of [Store.MendLanes]
		sync.Mutex

		after string
	}

	fanOutTurn, operationalTurn turn
}

// turn says which workspace had the latest step of a kind of work.
type turn struct {
	sync.Mutex

	workspaceID string
}

// Open opens the database at url and starts the group commits. A url that begins with
// postgres:// or postgresql:// is PostgreSQL's; "sqlite:PATH" and a bare path are a SQLite
// file, made when it is missing, and "" is the file postrider.db in the working folder.
// SQLite's driver ("sqlite", modernc.org/sqlite) must be imported by the program. Returns
// [postrider.CodeUnavailable] when the database cannot be reached.
func Open(ctx context.Context, url string, options Options) (*Store, error) {
	if options.Keys == nil || options.Now == nil || options.IDs == nil || options.Logger == nil {
		return nil, errors.New("store: Keys, Now, IDs and Logger of the Options are required")
	}
	if options.OnCancelled == nil {
		options.OnCancelled = func(int) {}
	}
	if options.OnExpired == nil {
		options.OnExpired = func(int) {}
	}
	if options.Breaker == (postrider.Breaker{}) {
		options.Breaker = postrider.DefaultBreaker()
	}
	if options.Random == nil {
		options.Random = func() float64 { return noJitter }
	}
	if options.OnReplayEnded == nil {
		options.OnReplayEnded = func(postrider.ReplayState) {}
	}
	db, err := sqldb.Open(url)
	if err != nil {
		return nil, sqldb.Failure("open", err)
	}
	s := &Store{
		Options: options, db: db, shared: db.Shared && !options.Alone, process: options.IDs.New("process"),
		wake: make(chan struct{}, 1), wakeRetries: make(chan struct{}, 1), wakeSweeps: make(chan struct{}, 1),
		wakeFanOuts: make(chan struct{}, 1), wakeNotices: make(chan struct{}, 1), wakeReplays: make(chan struct{}, 1),
		notifyRequests: make(chan struct{}, 1),
		shaper:         shaping.New(),
		judging:        make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)),
		matches:        matchCache{known: map[matchKey]cachedMatch{}},
		starts:         rounds{queues: map[string]string{}}, retries: rounds{queues: map[string]string{}},
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	// The groups outlive the call that opens the store, and end with Close.
	ctx = context.WithoutCancel(ctx)
	s.publishing = sqldb.NewGroup(ctx, publicationWeight, s.publishAll)
	s.recording = sqldb.NewGroup(ctx, func(o []postrider.Outcome) int { return len(o) }, s.recordAll)
	s.permitting = sqldb.NewGroup(ctx, func(postrider.PermitRequest) int { return 1 }, s.permitAll)
	s.startNotifying(ctx)
	return s, nil
}

// HasSQLite reports whether the program has SQLite's driver in it, without which [Open] cannot open
// a file.
func HasSQLite() bool { return sqldb.HasSQLite() }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.db.Ping(ctx) }

// installationRow is the row of the table installation.
type installationRow struct {
	TaskQueue string `db:"task_queue"`
}

// TaskQueue returns the name of Temporal's task queue for all who work on this database.
// Another database has another, so that several installations can share a namespace.
func (s *Store) TaskQueue(ctx context.Context) (string, error) {
	var row installationRow
	err := sqldb.SQL("SELECT task_queue FROM installation").Get(ctx, s.db.Reading, &row)
	return row.TaskQueue, sqldb.Failure("read the task queue", err)
}

// Clock returns the time by the clock of the database: by this machine's, on SQLite.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	query := "SELECT clock_timestamp()"
	if !s.db.Shared {
		query = "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now') || '+00:00'"
	}
	var now sqldb.Time
	err := sqldb.SQL(query).Get(ctx, s.db.Reading, &now)
	return now.Time, sqldb.Failure("read the clock", err)
}

// Close ends the group commits, after the calls that they were given are done, and closes
// the database. Nothing may be claimed meanwhile.
func (s *Store) Close() error {
	s.publishing.Close()
	s.recording.Close()
	s.permitting.Close()
	s.stopNotifying()
	s.writes.running.Wait()
	return s.db.Close()
}

// Wake gets a value, one for many, when this process committed something that a dispatcher
// can claim, and while [Store.Listen] runs, when another process did.
func (s *Store) Wake() <-chan struct{} { return s.wake }

// WakeRetries gets a value, one for many, when this process left retries to be handed
// over.
func (s *Store) WakeRetries() <-chan struct{} { return s.wakeRetries }

// WakeSweeps gets a value, one for many, when this process asked for a sweep.
func (s *Store) WakeSweeps() <-chan struct{} { return s.wakeSweeps }

// WakeFanOuts gets a value, one for many, when this process accepted a publication whose
// deliveries have still to be made.
func (s *Store) WakeFanOuts() <-chan struct{} { return s.wakeFanOuts }

func (s *Store) signal() { signal(s.wake) }

// signal puts a token into a channel of one, unless it holds one already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Store) now() time.Time { return postrider.Timestamp(s.Now()) }
