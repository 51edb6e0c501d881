package demo

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

// report prints the outcome of every webhook. It returns errDiffers when one is not the expected
// outcome.
func (d *demo) report(ctx context.Context) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nWEBHOOK\tSIGNED\tEVENTS\tREQUESTS\tVERIFIED\tSTATE\tATTEMPTS\tLAST RESULT\tAS IT SHOULD")
	var different []string
	for _, t := range d.receivers {
		got, problems, err := d.outcome(ctx, t)
		if err != nil {
			return err
		}
		verified, right := "yes", "yes"
		if t.method == "none" {
			verified = "-"
		}
		if len(problems) > 0 {
			verified = "NO"
			different = append(different, fmt.Sprintf("%s: %s", t.name, strings.Join(problems, "; ")))
		}
		if got != t.want {
			different = append(different, fmt.Sprintf("%s: got %+v, want %+v", t.name, got, t.want))
		}
		if got != t.want || len(problems) > 0 {
			right = "NO"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\t%d\t%s\t%s\n",
			t.name, t.method, got.events, got.requests, verified, got.state, got.attempts, got.result, right)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Println()
	if len(different) > 0 {
		for _, line := range different {
			fmt.Println("DIFFERS  " + line)
		}
		return errDiffers
	}
	fmt.Printf("All %d webhooks got what they should; signatures and credentials were checked without Postrider's own code.\n",
		len(d.receivers))
	return nil
}

// outcome returns the outcome of a receiver and its webhook, and the problems that were found.
// When the deliveries of a webhook have different states or results, "/" joins them.
func (d *demo) outcome(ctx context.Context, t *testReceiver) (outcome, []string, error) {
	events, requests, problems := t.arrived()
	got := outcome{events: events, requests: requests}
	deliveries, err := d.Deliveries(ctx, t.id)
	if err != nil {
		return got, nil, err
	}
	var states, results words
	for _, listed := range deliveries {
		delivery, err := d.Delivery(ctx, listed.ID)
		if err != nil {
			return got, nil, err
		}
		states.add(delivery.State)
		results.add(lastResult(delivery))
		got.attempts = max(got.attempts, len(delivery.Attempts))
		problems = append(problems, d.disagreements(ctx, delivery)...)
	}
	got.state, got.result = states.String(), results.String()
	return got, problems, nil
}

// disagreements compares a delivery in the database with its workflow's history. An attempt is in
// the database first, so the workflow gets some time.
func (d *demo) disagreements(ctx context.Context, delivery instance.Delivery) []string {
	ctx, cancel := context.WithTimeout(ctx, agreement)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		problem := d.disagreement(ctx, delivery)
		if problem == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return []string{problem}
		case <-ticker.C:
		}
	}
}

// agreement is how long a workflow may lag behind the database.
const agreement = 5 * time.Second

// disagreement returns the difference between a delivery and its history, or "".
func (d *demo) disagreement(ctx context.Context, delivery instance.Delivery) string {
	history, err := d.History(ctx, delivery.ID)
	switch {
	case err != nil:
		return "history: " + err.Error()
	case history.Source != "workflow":
		return "history: answered by the " + history.Source
	case history.State != delivery.State || len(history.Attempts) != len(delivery.Attempts):
		return fmt.Sprintf("history: %s after %d attempts, database: %s after %d",
			history.State, len(history.Attempts), delivery.State, len(delivery.Attempts))
	}
	return ""
}

// lastResult returns the result of the last attempt.
func lastResult(d instance.Delivery) string {
	if len(d.Attempts) == 0 {
		return "none"
	}
	return d.Attempts[len(d.Attempts)-1].Result
}

// words is a list of different words, in the order in which they were added first.
type words []string

func (w *words) add(word string) {
	for _, known := range *w {
		if known == word {
			return
		}
	}
	*w = append(*w, word)
}

// String joins the words.
func (w words) String() string { return strings.Join(w, "/") }
