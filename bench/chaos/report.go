package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
)

// report prints what the ledger comes to. It returns an error when something is wrong.
func (c *chaos) report(ctx context.Context) error {
	b, err := c.ledger.compare(ctx, c.system.client(), c.cancels)
	if err != nil {
		return err
	}
	c.reportFaults(b)
	c.reportBalance(b)
	warnings := c.system.warnings()
	for _, message := range slices.Sorted(maps.Keys(warnings)) {
		c.sayf("logged: %s (%d times)", message, warnings[message])
	}
	wrong := append(c.wrong, b.wrong...)
	for _, what := range wrong {
		c.sayf("WRONG: %s", what)
	}
	if len(wrong) > 0 {
		return errWrong
	}
	c.sayf("nothing was lost, and nothing disagrees")
	return nil
}

// reportFaults prints a line for every fault that was injected.
func (c *chaos) reportFaults(b *balance) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "fault\tlasted\trecovered in\tp50\tp99\tpublishes refused\tcopies")
	counted := map[string]bool{}
	for _, s := range c.ledger.spans {
		copies := "as above"
		if !counted[s.fault] { // one that was injected twice has all its copies in its first line
			copies = strconv.Itoa(b.copies[s.fault])
		}
		counted[s.fault] = true
		p50, p99 := c.ledger.latency(s.began, s.recovered)
		fmt.Fprintf(table, "%s\t%.1f s\t%.1f s\t%.3f s\t%.3f s\t%d\t%s\n", s.fault, s.healed.Sub(s.began).Seconds(),
			s.recovered.Sub(s.healed).Seconds(), p50.Seconds(), p99.Seconds(), s.refused, copies)
	}
	p50, p99 := c.ledger.calmLatency()
	fmt.Fprintf(table, "%s\t\t\t%.3f s\t%.3f s\t\t%d\n", noFault, p50.Seconds(), p99.Seconds(), b.copies[noFault])
}

// reportBalance prints the ledger.
func (c *chaos) reportBalance(b *balance) {
	c.sayf("%d events were accepted; %d publishes were told to come again, or got no answer", b.accepted, c.refusals())
	if b.forgotten > 0 {
		c.sayf("  %d of them a database lost that had acknowledged them: %d had arrived, and none is owed", b.forgotten, b.arrived)
	}
	c.sayf("%d deliveries are owed =", b.owed)
	for _, state := range []string{"succeeded", "failed", "parked", "cancelled", "pending", "delivering", "retrying"} {
		c.sayf("  %-10s %7d", state, b.states[state])
	}
	c.sayf("  %-10s %7d", "lost", b.lost)
	for _, reason := range slices.Sorted(maps.Keys(b.reasons)) {
		c.sayf("  failed: %s (%d)", reason, b.reasons[reason])
	}
	copies := 0
	for _, n := range b.copies {
		copies += n
	}
	c.sayf("%d requests to good receivers were copies of one that had been answered with 2xx; no delivery came more than %d times",
		copies, b.most)
	c.sayf("%d workflows were ended by hand; %d histories were compared with their rows", c.ended, b.histories)
}
