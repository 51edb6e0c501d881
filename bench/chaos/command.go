package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// The layouts.
const (
	layoutSQLite   = "standalone-sqlite"
	layoutPostgres = "standalone-postgres"
	layoutCluster  = "cluster" // PostgreSQL, Temporal, an API, two workers
)

const (
	calm          = 5 * time.Second // before each fault
	recoveryBound = 5 * time.Minute // for an event to arrive after a fault
	settleBound   = 10 * time.Minute
	pollInterval  = 500 * time.Millisecond
)

// Command is chaos as a command.
type Command struct {
	Duration   time.Duration `default:"10m" help:"How long faults are injected; at least one is."`
	Seed       uint64        `default:"1" help:"Gives the order of the faults."`
	Layout     string        `default:"standalone-sqlite" enum:"standalone-sqlite,standalone-postgres,cluster" help:"What to break: one process on SQLite, one on PostgreSQL, or Temporal, an API and two workers on PostgreSQL."`
	Rate       int           `default:"20" help:"Good events a second, each for three webhooks."`
	Faults     []string      `placeholder:"TEXT,..." help:"Only faults whose names contain one of these."`
	Keep       bool          `help:"Keep the temporary folder, with the log of what ran."`
	Standalone string        `default:"bin/postrider-standalone" help:"The standalone binary."`
	Postrider  string        `default:"bin/postrider" help:"The production binary, for the cluster."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the first context of all
	defer stop()
	var c Command
	parser := kong.Parse(&c, kong.Name("chaos"), kong.Description("Break the real binaries under load, and count what is lost: nothing."))
	parser.FatalIfErrorf(c.Run(ctx))
}

// errWrong is the error of a run that found something that must not be.
var errWrong = errors.New("something is wrong that must not be; see above")

// chaos is a run.
type chaos struct {
	*Command

	system   *system
	ledger   *ledger
	receiver *receiver
	logger   *slog.Logger
	ended    int // workflows that a fault has ended
	began    time.Time

	mu         sync.Mutex
	refused    int      // publishes that were told to come again, or got no answer
	unexpected []string // other answers
}

// Run implements the command.
func (c *Command) Run(ctx context.Context) error {
	run := &chaos{Command: c, ledger: newLedger(), logger: slog.New(slog.DiscardHandler), began: time.Now()}
	run.sayf("layout %s, seed %d: starting", c.Layout, c.Seed)
	var err error
	if run.system, err = newSystem(ctx, c); run.system != nil {
		defer run.system.close()
	}
	if err != nil {
		return err
	}
	if run.receiver, err = newReceiver(ctx, run.ledger); err != nil {
		return err
	}
	defer run.receiver.close()
	if err := run.subscribe(ctx); err != nil {
		return err
	}
	if err := run.breakThings(ctx); err != nil {
		return err
	}
	run.sayf("waiting until all deliveries have ended")
	if err := run.settle(ctx); err != nil {
		return err
	}
	return run.report(ctx)
}

// breakThings injects faults under load for the duration.
func (c *chaos) breakThings(ctx context.Context) error {
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	load.Go(func() { c.load(loading) })
	defer load.Wait()
	defer stop()
	random := rand.New(rand.NewPCG(c.Seed, c.Seed)) //nolint:gosec // an order that can be repeated
	var queue []fault
	for n := 0; ctx.Err() == nil && (n == 0 || time.Since(c.began) < c.Duration); n++ {
		if len(queue) == 0 {
			queue = slices.DeleteFunc(faults(c.Layout), func(f fault) bool { return !c.wanted(f) })
			random.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
		}
		if len(queue) == 0 {
			return errors.New("--faults: no fault of this layout has such a name")
		}
		pause(ctx, calm)
		if err := c.try(ctx, queue[0]); err != nil {
			return err
		}
		queue = queue[1:]
	}
	return ctx.Err()
}

func (c *chaos) wanted(f fault) bool {
	return len(c.Faults) == 0 || slices.ContainsFunc(c.Faults, func(text string) bool { return strings.Contains(f.name, text) })
}

// try injects a fault, and waits until an event arrives that is published after it.
func (c *chaos) try(ctx context.Context, f fault) error {
	began := time.Now()
	if err := f.inject(ctx, c); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	healed := time.Now()
	bound, cancel := context.WithTimeout(ctx, recoveryBound)
	defer cancel()
	id := c.publish(bound, goodEvents)
	for id != "" && !c.ledger.arrived(id) {
		if pause(bound, pollInterval/50); bound.Err() != nil {
			return fmt.Errorf("%s: an event that was published afterwards did not arrive in %s", f.name, recoveryBound)
		}
	}
	c.sayf("%-55s lasted %5.1f s, recovered in %5.1f s, the good events' p99 meanwhile %7.3f s", f.name,
		healed.Sub(began).Seconds(), time.Since(healed).Seconds(), c.ledger.p99(began, time.Now()).Seconds())
	return ctx.Err()
}

// settle waits until no delivery is under way.
func (c *chaos) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	for id, w := range c.ledger.webhooks {
		for _, state := range []string{"pending", "delivering", "retrying"} {
			for {
				var page struct {
					Data []struct{ ID string } `json:"data"`
				}
				client := c.system.client()
				err := client.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+id+"/deliveries?limit=1&state="+state, nil, &page)
				if err == nil && len(page.Data) == 0 {
					break
				}
				if pause(ctx, pollInterval); ctx.Err() != nil {
					c.sayf("a delivery to %s is still %s", w.path, state)
					return nil // the comparison says what is stuck
				}
			}
		}
	}
	return nil
}

// report prints what the ledger comes to. It returns an error when something is wrong.
func (c *chaos) report(ctx context.Context) error {
	b, err := c.ledger.compare(ctx, c.system.client())
	if err != nil {
		return err
	}
	c.sayf("%d events were accepted, %d tries refused or not answered; they came to %d deliveries:", b.accepted, c.refused, b.owed)
	for _, state := range slices.Sorted(maps.Keys(b.states)) {
		c.sayf("  %-10s %6d", state, b.states[state])
	}
	c.sayf("%d requests were copies of one that had been answered with 2xx; %d workflows were ended by hand", b.copies, c.ended)
	for _, message := range slices.Sorted(maps.Keys(c.system.warnings())) {
		c.sayf("  logged: %s (%d times)", message, c.system.warnings()[message])
	}
	for _, wrong := range append(b.wrong, c.unexpected...) {
		c.sayf("WRONG: %s", wrong)
	}
	if len(b.wrong)+len(c.unexpected) > 0 {
		return errWrong
	}
	c.sayf("nothing was lost")
	return nil
}

// sayf prints a line with the time since the start.
func (c *chaos) sayf(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}
