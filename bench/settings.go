package main

import (
	"fmt"

	"postrider.dev/postrider"
)

// settings are the settings of a step's webhooks.
type settings struct {
	text   string         // as the results show them
	fields map[string]any // fields of the request; every other field has its default
}

// defaultSettings are the defaults of a webhook.
func defaultSettings() settings { return settings{text: inFlight(postrider.DefaultMaxInFlight)} }

// mostInFlight allows as many attempts at once as a webhook can have.
func mostInFlight() settings {
	return settings{text: inFlight(postrider.MaxMaxInFlight), fields: map[string]any{"max_in_flight": postrider.MaxMaxInFlight}}
}

func inFlight(n int) string { return fmt.Sprintf("max_in_flight %d", n) }

// noSettings is the text for the naive design, whose webhooks have no settings.
const noSettings = "no limit"
