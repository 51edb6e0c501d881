package main

import (
	"fmt"

	"postrider.dev/postrider"
)

// settings are those of a step's webhooks.
type settings struct {
	words  string         // as results tell them
	fields map[string]any // as a request sets them; the rest are a webhook's defaults
}

// usual are a webhook's defaults.
func usual() settings { return settings{words: inFlight(postrider.DefaultMaxInFlight)} }

// wide are as many attempts at once as a webhook may have.
func wide() settings {
	return settings{words: inFlight(postrider.MaxMaxInFlight), fields: map[string]any{"max_in_flight": postrider.MaxMaxInFlight}}
}

func inFlight(n int) string { return fmt.Sprintf("max_in_flight %d", n) }

// noSettings is what results tell of the naive design's webhooks, which have none.
const noSettings = "no limit"
