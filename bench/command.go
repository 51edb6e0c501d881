package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"postrider.dev/postrider/store/pgtest"
)

// runCommand measures scenarios and prints the results.
type runCommand struct {
	Scenarios []string `placeholder:"NAMES" help:"What to measure, in this order. Measured when nothing is said: ${ordinary}. Only when named, or with 'all': ${extra}."`
	Modes     []string `placeholder:"NAMES" help:"naive: a plain Temporal design; single: Postrider with a workflow for each delivery (POSTRIDER_BATCHING=never); batch: Postrider as it comes; floor: the same work without Temporal, what the machine can do at most. A scenario leaves out those that it says nothing about. Default: all."`
	Runs      int      `default:"3" help:"Rounds. Each measures every scenario in every mode, in another order of modes; the results are medians."`
	JSON      string   `placeholder:"FILE" help:"File to write the results to. Default: none, they are only printed."`
	Profile   string   `placeholder:"FOLDER" help:"Folder for CPU profiles of Postrider: one file a second while a step is measured, in a folder for each step, mode and round. 'go tool pprof FOLDER/burst-single-1/*' adds them up."`
	Seed      uint64   `default:"1" help:"Seed of the events' data."`
	Table     int      `default:"1000000" help:"Finished deliveries in the database of bigtable, up to 10000000: these take 15 GB of disk and some minutes to make."`
	Scale     float64  `default:"1" help:"Factor on numbers and times of every scenario, from 0.001 to 10: 0.01 tries whether everything works, and says nothing about speed."`

	Standalone string `default:"bin/postrider-standalone" help:"The program to measure."`
	Postrider  string `default:"bin/postrider" help:"Its production counterpart, which some scenarios publish through."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *runCommand) Validate() error {
	if c.Runs < 1 {
		return errors.New("--runs: must be 1 or more")
	}
	if c.Table < 1 || c.Table > 10_000_000 {
		return errors.New("--table: must be from 1 to 10000000")
	}
	if c.Scale < 0.001 || c.Scale > 10 {
		return errors.New("--scale: must be from 0.001 to 10")
	}
	_, err := c.plan()
	return err
}

// bench is one execution of the command: what its runs share, and their results.
type bench struct {
	*runCommand

	programs        string // folder of the programs naive and floor
	dir             string // temporary folder, removed at the end
	postgres        *pgtest.Server
	receiver        *receiverProcess
	began           time.Time
	databases       int    // created so far: their names are numbered
	round           int    // from 0
	historyDatabase string // name of the database with a long history; "" until it is filled
	results         results
}

// postgresSettings fit PostgreSQL to a small machine. They leave the settings for durability
// at their defaults: every commit is synced.
func postgresSettings() []string {
	return []string{
		"shared_buffers=512MB", "effective_cache_size=2GB", "maintenance_work_mem=256MB", "random_page_cost=1.1",
		"effective_io_concurrency=200", "max_wal_size=4GB", "checkpoint_timeout=15min", "max_connections=200",
	}
}

// Run implements the command.
func (c *runCommand) Run(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{runCommand: c, programs: filepath.Dir(self), began: time.Now()}
	if b.dir, err = os.MkdirTemp("", "postrider-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	b.sayf("starting PostgreSQL, with %v", postgresSettings())
	if b.postgres, err = pgtest.StartDurable(ctx, postgresSettings()...); err != nil {
		return err
	}
	defer b.postgres.Stop()
	if b.receiver, err = startReceiver(ctx, b.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.receiver.Kill()) }()
	return b.rounds(ctx)
}

// rounds measures everything that is planned, in every round, and concludes the results.
func (b *bench) rounds(ctx context.Context) error {
	b.results = results{MeasuredAt: b.began.UTC().Truncate(time.Second), Seed: b.Seed, Rounds: b.Runs}
	var err error
	if b.results.Machine, err = b.describe(ctx); err != nil {
		return err
	}
	plan, err := b.plan()
	if err != nil {
		return err
	}
	for b.round = range b.Runs {
		for _, each := range plan {
			for _, m := range rotate(each.modes, b.round) {
				if err := b.measurePlanned(ctx, each, m); err != nil {
					return fmt.Errorf("round %d, mode %s: %w", b.round+1, m, err)
				}
			}
		}
	}
	b.results.conclude(steps())
	b.results.show(os.Stdout)
	if b.JSON == "" {
		return nil
	}
	return b.results.write(b.JSON)
}

// measurePlanned measures planned parts in one mode.
func (b *bench) measurePlanned(ctx context.Context, p planned, m mode) error {
	for _, each := range p.parts {
		if err := b.measurePart(ctx, each, m); err != nil {
			return err
		}
	}
	return nil
}

// measurePart starts a system, measures the steps of a part on it, and closes it.
func (b *bench) measurePart(ctx context.Context, p part, m mode) (err error) {
	start := p.start
	if start == nil {
		start = func(ctx context.Context, b *bench, m mode) (*system, error) { return b.start(ctx, m, startOptions{}) }
	}
	b.sayf("round %d of %d: starting %s", b.round+1, b.Runs, m)
	s, err := start(ctx, b, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, each := range p.steps {
		b.sayf("round %d of %d: %s, %s", b.round+1, b.Runs, each.name, m)
		measured, err := each.measure(ctx, b, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", each.name, err, s.logged())
		}
		b.results.add(each.name, m, measured)
		b.sayf("  %s", measured)
	}
	return nil
}

// planned is a list of parts and the modes in which they are measured.
type planned struct {
	parts []part
	modes []mode
}

// plan returns what the command line asks for. Consecutive scenarios share a system when
// they can and have the same modes.
func (c *runCommand) plan() ([]planned, error) {
	chosen, err := c.chosen()
	if err != nil {
		return nil, err
	}
	var plan []planned
	for _, s := range chosen {
		in, err := c.modesOf(s)
		if err != nil {
			return nil, err
		}
		next := planned{parts: s.parts, modes: in}
		if last := len(plan) - 1; last >= 0 && plan[last].shares(next) {
			together := slices.Concat(plan[last].parts[0].steps, s.parts[0].steps)
			plan[last].parts = []part{{steps: together}}
			continue
		}
		plan = append(plan, next)
	}
	return plan, nil
}

// shares reports whether both can be measured on one system.
func (p planned) shares(other planned) bool {
	return len(p.parts) == 1 && p.parts[0].start == nil &&
		len(other.parts) == 1 && other.parts[0].start == nil && slices.Equal(p.modes, other.modes)
}

// chosen returns the scenarios to measure.
func (c *runCommand) chosen() ([]scenario, error) {
	all := scenarios()
	if len(c.Scenarios) == 0 {
		return slices.DeleteFunc(all, func(s scenario) bool { return s.extra }), nil
	}
	if slices.Equal(c.Scenarios, []string{"all"}) {
		return all, nil
	}
	var chosen []scenario
	for _, name := range c.Scenarios {
		at := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
		if at < 0 {
			return nil, fmt.Errorf("--scenarios: there is no %q; --help lists them", name)
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

// modesOf returns the modes in which a scenario is measured.
func (c *runCommand) modesOf(s scenario) ([]mode, error) {
	for _, name := range c.Modes {
		if !slices.Contains(modes(), mode(name)) {
			return nil, fmt.Errorf("--modes: there is no %q, only %v", name, modes())
		}
	}
	in := slices.DeleteFunc(slices.Clone(s.modes), func(m mode) bool {
		return len(c.Modes) > 0 && !slices.Contains(c.Modes, string(m))
	})
	if len(in) == 0 {
		return nil, fmt.Errorf("--modes: %s is measured in %v only", s.name, s.modes)
	}
	return in, nil
}

// random returns the randomness of the events' data, which is the same for every step.
func (b *bench) random() *rand.Rand { return rand.New(rand.NewPCG(b.Seed, 0)) } //nolint:gosec // repeatable, not secret

// scaled applies --scale to a number of things.
func (b *bench) scaled(n int) int { return max(int(float64(n)*b.Scale), 1) }

// span applies --scale to a time.
func (b *bench) span(d time.Duration) time.Duration { return time.Duration(float64(d) * b.Scale) }

// progressInterval is how often a long step prints its progress.
const progressInterval = 10 * time.Second

// sayf prints a line of progress, with the time since the start.
func (b *bench) sayf(format string, args ...any) {
	elapsed := time.Since(b.began).Truncate(time.Second)
	fmt.Printf("%02d:%02d  %s\n", int(elapsed.Minutes()), int(elapsed.Seconds())%60, fmt.Sprintf(format, args...))
}
