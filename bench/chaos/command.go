package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"go.temporal.io/sdk/client"
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
	// workflowsBound is longer than a workflow waits for anything of the load's webhooks.
	workflowsBound = 3 * time.Minute
	pollInterval   = 500 * time.Millisecond
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

// Help tells what a run does. Kong prints it with --help.
func (c *Command) Help() string {
	var text strings.Builder
	text.WriteString("Publishes to good and hostile receivers, breaks one thing after another, waits until every" +
		" delivery has ended, and compares what the API accepted with what the receivers got and with what the API" +
		" and Temporal say: CONTRIBUTING.md, \"Chaos\", says how to read that." +
		" It ends with 1 when anything was lost or disagrees. The same seed gives the same order of faults:\n")
	for _, layout := range everywhere {
		fmt.Fprintf(&text, "\n%s:\n", layout)
		for _, f := range faults(layout) {
			fmt.Fprintf(&text, "  %s\n", f.name)
		}
	}
	return text.String()
}

// errWrong is the error of a run that found something that must not be.
var errWrong = errors.New("something is wrong that must not be; see above")

// chaos is a run.
type chaos struct {
	*Command

	links    links
	system   *system
	ledger   *ledger
	receiver *receiver
	logger   *slog.Logger
	chance   *rand.Rand // of what faults leave to it
	ended    int        // workflows that a fault has ended
	cancels  bool       // some were cancelled
	began    time.Time

	mu      sync.Mutex
	refused int      // publishes that were told to come again, or got no answer
	wrong   []string // found on the way
}

// Run implements the command.
func (c *Command) Run(ctx context.Context) (err error) {
	run := &chaos{
		Command: c, links: links{}, ledger: newLedger(), logger: slog.New(slog.DiscardHandler), began: time.Now(),
		chance: rand.New(rand.NewPCG(c.Seed, 1)), //nolint:gosec // an order that can be repeated
	}
	defer run.links.close()
	run.sayf("layout %s, seed %d: starting", c.Layout, c.Seed)
	dir, err := os.MkdirTemp("", "postrider-chaos-")
	if err != nil {
		return err
	}
	defer run.leave(dir)
	if run.receiver, err = newReceiver(ctx, run.ledger, run.links, receiversOf(c.Layout), dir); run.receiver != nil {
		defer run.receiver.close()
	}
	if err != nil {
		return err
	}
	if run.system, err = newSystem(ctx, c, run.links, dir, run.receiver.authority); run.system != nil {
		defer run.system.close()
	}
	if err != nil {
		return err
	}
	return run.run(ctx)
}

// leave removes the run's folder, unless it is to be kept.
func (c *chaos) leave(dir string) {
	if c.Keep {
		c.sayf("kept: %s", dir)
		return
	}
	_ = os.RemoveAll(dir)
}

func (c *chaos) run(ctx context.Context) error {
	if err := c.subscribe(ctx); err != nil {
		return err
	}
	if err := c.breakThings(ctx); err != nil {
		return err
	}
	c.sayf("waiting until all deliveries and their workflows have ended")
	if err := c.settle(ctx); err != nil {
		return err
	}
	if err := c.settleWorkflows(ctx); err != nil {
		return err
	}
	return c.report(ctx)
}

// breakThings injects faults under load for the duration.
func (c *chaos) breakThings(ctx context.Context) error {
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	load.Go(func() { c.load(loading) })
	defer load.Wait()
	defer stop()
	order := rand.New(rand.NewPCG(c.Seed, c.Seed)) //nolint:gosec // an order that can be repeated
	var queue []fault
	for n := 0; ctx.Err() == nil && (n == 0 || time.Since(c.began) < c.Duration); n++ {
		if len(queue) == 0 {
			queue = slices.DeleteFunc(faults(c.Layout), func(f fault) bool { return !c.wanted(f) })
			order.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
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

// try injects a fault, and waits until an event that is published after it has come to every good
// receiver.
func (c *chaos) try(ctx context.Context, f fault) error {
	refused := c.refusals()
	c.ledger.begin(f.name)
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
	s := c.ledger.end(healed, c.refusals()-refused)
	p50, p99 := c.ledger.latency(s.began, s.recovered)
	c.sayf("%-60s lasted %5.1f s, recovered in %5.1f s; good events' p50 %6.3f s, p99 %7.3f s", f.name,
		s.healed.Sub(s.began).Seconds(), s.recovered.Sub(s.healed).Seconds(), p50.Seconds(), p99.Seconds())
	return ctx.Err()
}

// settle waits until no delivery is under way.
func (c *chaos) settle(ctx context.Context) error {
	bound, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	for id, w := range c.ledger.webhooks {
		for _, state := range []string{"pending", "delivering", "retrying"} {
			for {
				var page struct {
					Data []struct{ ID string } `json:"data"`
				}
				api := c.system.client()
				err := api.Call(bound, http.MethodGet, "/api/v1/webhooks/"+id+"/deliveries?limit=1&state="+state, nil, &page)
				if err == nil && len(page.Data) == 0 {
					break
				}
				if pause(bound, pollInterval); bound.Err() != nil {
					c.sayf("a delivery to %s is still %s", w.path, state)
					return ctx.Err() // the comparison says what is stuck
				}
			}
		}
	}
	return ctx.Err()
}

// settleWorkflows waits until no workflow is open. One that stays carries nothing, since all
// deliveries have ended.
func (c *chaos) settleWorkflows(ctx context.Context) error {
	bound, cancel := context.WithTimeout(ctx, workflowsBound)
	defer cancel()
	return c.withTemporal(ctx, func(temporal client.Client) error {
		for {
			ids, err := open(ctx, temporal)
			if err != nil || len(ids) == 0 {
				return err
			}
			if pause(bound, pollInterval); bound.Err() != nil {
				c.wrongf("disagree: all deliveries have ended, and these workflows are open: %v", ids)
				return ctx.Err()
			}
		}
	})
}

// wrongf notes something that must not be.
func (c *chaos) wrongf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// refusals returns how many publishes were told to come again, or got no answer.
func (c *chaos) refusals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// sayf prints a line with the time since the start.
func (c *chaos) sayf(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}
