package workflows

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.temporal.io/sdk/client"

	"postrider.dev/postrider"
)

// This file says in words, for Temporal's web interface, what a workflow carries: types of events,
// hosts and ids. A receiver's URL may hold credentials, so that its host alone is named.

// Limits of what is said. Temporal refuses a start with a summary of more than 400 bytes, as JSON
// and with what says that it is JSON; or with details of more than 20,000.
const (
	maxSummary = 340 // bytes, as JSON
	maxNamed   = 3   // kinds of deliveries in a summary
	maxListed  = 20  // in details
)

// describeOwn says what the workflow of one delivery carries.
func describeOwn(options *client.StartWorkflowOptions, d postrider.Dispatch) {
	options.StaticSummary = brief(route(d))
	options.StaticDetails = identify(d.Delivery) + "\n\nUp to " + count(1+d.Policy.MaxRetries, "attempt") + "."
}

// describeBatch says which first attempts a batch makes, as far as it is known at its start.
func describeBatch(options *client.StartWorkflowOptions, known []postrider.Dispatch) {
	if len(known) == 0 {
		options.StaticSummary = "First attempts of what is claimed within a second"
		return
	}
	routes := ranked(known, route)
	named := routes[:min(len(routes), maxNamed)]
	text := "First attempts: " + strings.Join(named, "; ")
	if others := len(routes) - len(named); others > 0 {
		text += fmt.Sprintf("; and %d more", others)
	}
	options.StaticSummary = brief(text)
	options.StaticDetails = fmt.Sprintf("Began with %s, and takes what else is claimed within a second.\n", count(len(known), "delivery"))
	for _, line := range routes[:min(len(routes), maxListed)] {
		options.StaticDetails += "\n- " + line
	}
}

// describeRetries says what a workflow retries, which attempt comes next, and why.
func describeRetries(options *client.StartWorkflowOptions, h postrider.Handover) {
	first := h.Deliveries[0]
	types := ranked(h.Deliveries, func(d postrider.Delivery) string { return d.EventType })
	named := strings.Join(types[:min(len(types), maxNamed)], ", ")
	if len(types) > maxNamed {
		named += ", …"
	}
	why := ""
	if first.LastError != nil {
		why = ": " + *first.LastError
	}
	options.StaticSummary = brief(fmt.Sprintf("Retry %s → %s, attempt %d of %d%s",
		named, hostOf(h.URL), first.AttemptCount+1, 1+first.Policy.MaxRetries, why))
	lines := make([]string, 0, maxListed)
	for _, d := range h.Deliveries[:min(len(h.Deliveries), maxListed)] {
		lines = append(lines, "- "+identify(d))
	}
	if others := len(h.Deliveries) - len(lines); others > 0 {
		lines = append(lines, fmt.Sprintf("- and %d more", others))
	}
	options.StaticDetails = strings.Join(lines, "\n")
}

// route says what a delivery brings where.
func route(d postrider.Dispatch) string { return d.EventType + " → " + hostOf(d.URL) }

// identify names a delivery and what belongs to it.
func identify(d postrider.Delivery) string {
	return fmt.Sprintf("Delivery `%s` of event `%s` (%s) to webhook `%s` in workspace `%s`",
		d.ID, d.EventID, d.EventType, d.WebhookID, d.WorkspaceID)
}

// hostOf returns the host and port of a URL.
func hostOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return "?"
	}
	return parsed.Host
}

// ranked returns the different values of a field, the most frequent first, each with its number
// if there are several things.
func ranked[Item any](items []Item, field func(Item) string) []string {
	times := map[string]int{}
	for _, item := range items {
		times[field(item)]++
	}
	values := make([]string, 0, len(times))
	for value := range times {
		values = append(values, value)
	}
	slices.SortFunc(values, func(a, b string) int { return cmp.Or(times[b]-times[a], cmp.Compare(a, b)) })
	for i, value := range values {
		if len(items) > 1 {
			values[i] = fmt.Sprintf("%d × %s", times[value], value)
		}
	}
	return values
}

// count returns a number and its noun.
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ie"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// brief returns the text on one line, shortened to what Temporal takes.
func brief(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	size := len(`""…`)
	for i, r := range text {
		encoded, _ := json.Marshal(string(r)) // a string always has an encoding
		if size += len(encoded) - len(`""`); size > maxSummary {
			return text[:i] + "…"
		}
	}
	return text
}
