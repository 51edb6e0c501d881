package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"os"
	"slices"
	"time"
)

// metrics are the numbers of a run, by their names in the JSON file.
type metrics map[string]float64

// Names of metrics.
const (
	events           = "events"        // published events
	deliveries       = "deliveries"    // deliveries of these events
	offeredPerS      = "offered_per_s" // events a second that a steady load publishes
	deliveriesPerS   = "deliveries_per_s"
	p50              = "p50_ms" // from sending the publish to receiving the webhook
	p99              = "p99_ms"
	duplicates       = "duplicates"     // requests that repeat an earlier one
	cpuPer1000       = "cpu_s_per_1000" // CPU seconds for a thousand deliveries (in a storm: attempts); a suffix names the process
	publishesPerS    = "publishes_per_s"
	eventsPerS       = "events_per_s"
	cpuPercent       = "cpu_percent" // of one core
	residentMemory   = "rss_mb"
	startSeconds     = "start_s"                 // from the start of the process to its first accepted event
	stormEvents      = "storm_events"            // events published at once, for a receiver that refuses every attempt
	attempts         = "attempts"                // attempts of the storm's deliveries
	attemptsPerS     = "attempts_per_s"          // from the storm's first publish to its last attempt
	stormSeconds     = "storm_s"                 // from the storm's first publish to its last attempt
	stormToPolicy    = "storm_to_policy"         // storm_s divided by the sum of the policy's waits
	retryToPolicyP50 = "retry_gap_to_policy_p50" // the time between two attempts, divided by the policy's wait
	retryToPolicyP99 = "retry_gap_to_policy_p99"
	answerMS         = "answer_ms" // until the request that the others are measured beside was answered
	allSeconds       = "all_s"     // until everything that it asked for was done
	peakMemory       = "peak_rss_mb"
	overrunMS        = "overrun_ms" // by how much the longest attempt took longer than its timeout
	toNaive          = "deliveries_per_s_to_naive"
	toFloor          = "deliveries_per_s_to_floor"
	toBaseline       = "deliveries_per_s_to_baseline"
	p99ToBaseline    = "p99_to_baseline"
	serverProcess    = "server"
	loadProcess      = "load" // load generator and receiver, which are not under test
	postgresProcess  = "postgres"
)

// row is the results of a step in a mode.
type row struct {
	Scenario string
	Mode     mode
	Settings string // of the webhooks, in words; "" in older files
	Median   metrics
	Runs     []metrics
}

// MarshalJSON writes the medians as fields beside scenario and mode.
func (r row) MarshalJSON() ([]byte, error) {
	flat := map[string]any{"scenario": r.Scenario, "mode": r.Mode, "runs": r.Runs}
	if r.Settings != "" {
		flat["settings"] = r.Settings
	}
	for name, value := range r.Median {
		flat[name] = value
	}
	return json.Marshal(flat)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *row) UnmarshalJSON(text []byte) error {
	var named struct {
		Scenario string    `json:"scenario"`
		Mode     mode      `json:"mode"`
		Settings string    `json:"settings"`
		Runs     []metrics `json:"runs"`
	}
	if err := json.Unmarshal(text, &named); err != nil {
		return err
	}
	var flat map[string]any
	if err := json.Unmarshal(text, &flat); err != nil {
		return err
	}
	*r = row{Scenario: named.Scenario, Mode: named.Mode, Settings: named.Settings, Runs: named.Runs, Median: metrics{}}
	for name, value := range flat {
		if number, ok := value.(float64); ok {
			r.Median[name] = number
		}
	}
	return nil
}

// results are the content of the JSON file.
type results struct {
	MeasuredAt time.Time `json:"measured_at"`
	Machine    machine   `json:"machine"`
	Seed       uint64    `json:"seed"`
	Rounds     int       `json:"runs"`
	Results    []row     `json:"results"`
}

// add adds the metrics of one run of a step in a mode.
func (r *results) add(scenario string, m mode, run metrics) {
	for name, value := range run {
		run[name] = round(value)
	}
	at := slices.IndexFunc(r.Results, func(known row) bool { return known.Scenario == scenario && known.Mode == m })
	if at < 0 {
		r.Results = append(r.Results, row{Scenario: scenario, Mode: m})
		at = len(r.Results) - 1
	}
	r.Results[at].Runs = append(r.Results[at].Runs, run)
}

// round keeps three decimals, because more would be noise.
func round(value float64) float64 { return math.Round(value*1000) / 1000 }

// conclude sorts the rows in the order of steps and computes medians and their ratios.
func (r *results) conclude(steps []step) {
	position := func(r row) int {
		return slices.IndexFunc(steps, func(s step) bool { return s.name == r.Scenario })*len(modes()) + slices.Index(modes(), r.Mode)
	}
	slices.SortFunc(r.Results, func(a, b row) int { return position(a) - position(b) })
	for i := range r.Results {
		r.Results[i].Median = medians(r.Results[i].Runs)
		r.Results[i].Settings = settingsOf(steps, r.Results[i])
	}
	for _, each := range steps {
		for _, m := range modes() {
			of, base := r.median(each.name, m), r.median(each.baseline, m)
			ratio(of, p99ToBaseline, p99, base)
			if _, steady := of[offeredPerS]; !steady { // at a steady rate every mode delivers the same
				ratio(of, toBaseline, deliveriesPerS, base)
				ratio(of, toNaive, deliveriesPerS, r.median(each.name, naive))
				ratio(of, toFloor, deliveriesPerS, r.median(each.name, floor))
			}
		}
	}
}

// settingsOf returns the settings of a row's webhooks, in words.
func settingsOf(steps []step, r row) string {
	at := slices.IndexFunc(steps, func(s step) bool { return s.name == r.Scenario })
	switch {
	case at < 0:
		return ""
	case r.Mode == naive:
		return noSettings
	}
	return steps[at].settings
}

// ratio sets name to a metric divided by the same metric of base, when both were measured.
func ratio(of metrics, name, metric string, base metrics) {
	if of[metric] > 0 && base[metric] > 0 {
		of[name] = round(of[metric] / base[metric])
	}
}

// median returns the medians of a step in a mode, or nil when it was not measured.
func (r *results) median(scenario string, m mode) metrics {
	for _, known := range r.Results {
		if known.Scenario == scenario && known.Mode == m {
			return known.Median
		}
	}
	return nil
}

// medians returns the median of each metric.
func medians(runs []metrics) metrics {
	of := map[string][]float64{}
	for _, run := range runs {
		for name, value := range run {
			of[name] = append(of[name], value)
		}
	}
	median := metrics{}
	for name := range maps.Keys(of) {
		values := slices.Sorted(slices.Values(of[name]))
		middle := len(values) / 2
		median[name] = values[middle]
		if len(values)%2 == 0 {
			median[name] = round((values[middle-1] + values[middle]) / 2)
		}
	}
	return median
}

// percentile returns the nearest-rank percentile of sorted values.
func percentile[T cmp.Ordered](sorted []T, percent float64) T {
	rank := int(math.Ceil(percent / 100 * float64(len(sorted))))
	return sorted[max(rank-1, 0)]
}

// write writes the results as JSON.
func (r *results) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // for everybody to read
}

// readResults reads a file that write wrote.
func readResults(path string) (*results, error) {
	text, err := os.ReadFile(path) //nolint:gosec // a file that the caller named
	if err != nil {
		return nil, err
	}
	var r results
	return &r, json.Unmarshal(text, &r)
}
