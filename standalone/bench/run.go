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

	"postrider/store/pgtest"
)

// runCommand measures.
type runCommand struct {
	Scenarios []string `placeholder:"NAMES" help:"What to measure, in this order. Measured when nothing is said: ${ordinary}. Only when named, or with 'all': ${extra}."`
	Modes     []string `placeholder:"NAMES" help:"naive: a plain Temporal design; single: Postrider with a workflow for each delivery (POSTRIDER_BATCHING=never); batch: Postrider as it comes; floor: the same work without Temporal, what the machine can do at most. A scenario leaves out those that it says nothing about. Default: all."`
	Runs      int      `default:"3" help:"Rounds. Each measures every scenario in every mode, in another order of modes; the results are medians."`
	JSON      string   `placeholder:"FILE" help:"File to write the results to. Default: none, they are only printed."`
	Profile   string   `placeholder:"FOLDER" help:"Folder for CPU profiles of Postrider: one file a second while a step is measured, in a folder for each step, mode and round. 'go tool pprof FOLDER/burst-single-1/*' adds them up."`
	Seed      uint64   `default:"1" help:"Seed of the events' data."`
	Scale     float64  `default:"1" help:"Factor on numbers and times of every scenario, from 0.001 to 10: 0.01 tries whether everything works, and says nothing about speed."`

	Standalone string `default:"bin/postrider-standalone" help:"The program to measure."`
	Postrider  string `default:"bin/postrider" help:"Its production counterpart, which some scenarios publish through."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *runCommand) Validate() error {
	if c.Runs < 1 {
		return errors.New("--runs: must be 1 or more")
	}
	if c.Scale < 0.001 || c.Scale > 10 {
		return errors.New("--scale: must be from 0.001 to 10")
	}
	_, err := c.plan()
	return err
}

// bench is one run of the benchmark.
type bench struct {
	*runCommand

	own      string // folder of the benchmark's own programs
	dir      string // for everything that goes at the end
	postgres *pgtest.Server
	ear      *ear
	began    time.Time
	made     int // databases
	results  results
}

// postgresSettings are what somebody would set who gives PostgreSQL a small machine.
// What is about durability is left as it comes: on.
func postgresSettings() []string {
	return []string{
		"shared_buffers=512MB", "effective_cache_size=2GB", "maintenance_work_mem=256MB", "random_page_cost=1.1", "effective_io_concurrency=200",
		"max_wal_size=4GB", "checkpoint_timeout=15min", "max_connections=200",
	}
}

// Run implements the command.
func (c *runCommand) Run(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{runCommand: c, own: filepath.Dir(self), began: time.Now()}
	if b.dir, err = os.MkdirTemp("", "postrider-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	b.say("starting PostgreSQL, with %v", postgresSettings())
	if b.postgres, err = pgtest.StartDurable(ctx, postgresSettings()...); err != nil {
		return err
	}
	defer b.postgres.Stop()
	if b.ear, err = startReceiver(ctx, b.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.ear.Kill()) }()
	return b.run(ctx)
}

func (b *bench) run(ctx context.Context) error {
	b.results = results{MeasuredAt: b.began.UTC().Truncate(time.Second), Seed: b.Seed, Rounds: b.Runs}
	var err error
	if b.results.Machine, err = b.describe(ctx); err != nil {
		return err
	}
	plan, err := b.plan()
	if err != nil {
		return err
	}
	for round := range b.Runs {
		for _, each := range plan {
			for _, m := range rotate(each.modes, round) {
				if err := b.measure(ctx, round, each.part, m); err != nil {
					return fmt.Errorf("round %d, mode %s: %w", round+1, m, err)
				}
			}
		}
	}
	b.results.conclude(baselines())
	b.print()
	if b.JSON == "" {
		return nil
	}
	return b.results.write(b.JSON)
}

// measure takes one subject through the steps of a part.
func (b *bench) measure(ctx context.Context, round int, p part, m mode) (err error) {
	start := p.start
	if start == nil {
		start = func(ctx context.Context, b *bench, m mode) (*subject, error) { return b.start(ctx, m, setup{}) }
	}
	b.say("round %d of %d: starting %s", round+1, b.Runs, m)
	s, err := start(ctx, b, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, each := range p.steps {
		b.say("round %d of %d: %s, %s", round+1, b.Runs, each.name, m)
		measured, err := b.profiled(ctx, s, fmt.Sprintf("%s-%s-%d", each.name, m, round+1), func() (metrics, error) { return each.measure(ctx, b, s) })
		if err != nil {
			return fmt.Errorf("%s: %w", each.name, err)
		}
		b.results.add(each.name, m, measured)
		b.say("  %s", measured)
	}
	return nil
}

// planned is a part with the modes that it is measured in.
type planned struct {
	part

	modes []mode
}

// plan is what the command line asks for. Neighbouring parts that share a subject
// and its modes are one.
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
		for _, p := range s.parts {
			if last := len(plan) - 1; p.start == nil && last >= 0 && plan[last].start == nil && slices.Equal(plan[last].modes, in) {
				plan[last].steps = slices.Concat(plan[last].steps, p.steps)
				continue
			}
			plan = append(plan, planned{p, in})
		}
	}
	return plan, nil
}

// chosen are the scenarios to measure.
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

// modesOf are the modes that a scenario is measured in.
func (c *runCommand) modesOf(s scenario) ([]mode, error) {
	for _, name := range c.Modes {
		if !slices.Contains(modes(), mode(name)) {
			return nil, fmt.Errorf("--modes: there is no %q, only %v", name, modes())
		}
	}
	in := slices.DeleteFunc(slices.Clone(s.modes), func(m mode) bool { return len(c.Modes) > 0 && !slices.Contains(c.Modes, string(m)) })
	if len(in) == 0 {
		return nil, fmt.Errorf("--modes: %s is measured in %v only", s.name, s.modes)
	}
	return in, nil
}

// random is the source of what differs between events: the same for every step.
func (b *bench) random() *rand.Rand { return rand.New(rand.NewPCG(b.Seed, 0)) } //nolint:gosec // repeatable, not secret

// scaled applies --scale to a number of things.
func (b *bench) scaled(n int) int { return max(int(float64(n)*b.Scale), 1) }

// progressInterval is how often a long step says how far it is.
const progressInterval = 10 * time.Second

// say tells the person who waits.
func (b *bench) say(format string, args ...any) {
	elapsed := time.Since(b.began).Truncate(time.Second)
	fmt.Printf("%02d:%02d  %s\n", int(elapsed.Minutes()), int(elapsed.Seconds())%60, fmt.Sprintf(format, args...))
}
