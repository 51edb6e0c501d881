package main

import (
	"context"
	"net/http"
	"slices"
	"time"

	"go.temporal.io/sdk/client"

	"postrider.dev/postrider/bench/hostile"
)

// fault is something that breaks.
type fault struct {
	name string
	// inject breaks it, for as long as it lasts, and heals it.
	inject func(ctx context.Context, c *chaos) error
	// layouts are those in which it can happen.
	layouts []string
}

var (
	everywhere = []string{layoutSQLite, layoutPostgres, layoutCluster} //nolint:gochecknoglobals // constants
	alone      = everywhere[:2]                                        //nolint:gochecknoglobals // constants
	onSQLite   = everywhere[:1]                                        //nolint:gochecknoglobals // constants
	onPostgres = everywhere[1:]                                        //nolint:gochecknoglobals // constants
	cluster    = everywhere[2:]                                        //nolint:gochecknoglobals // constants
)

// faults returns the faults of a layout.
func faults(layout string) []fault {
	all := slices.Concat(processFaults(), databaseFaults(), workflowFaults(), receiverFaults(), linkFaults(layout))
	return slices.DeleteFunc(all, func(f fault) bool { return !slices.Contains(f.layouts, layout) })
}

func processFaults() []fault {
	return []fault{
		{"kill -9 of the standalone process", killPart(partStandalone, 0), alone},
		{"SIGTERM and a restart of the standalone process", restartPart(partStandalone), alone},
		{"SIGSTOP of the standalone process for 5 s", stopPart(partStandalone, 5*time.Second), alone},
		{"kill -9 of the API", killPart(partAPI, 0), cluster},
		{"kill -9 of a worker", killPart(partWorker1, 0), cluster},
		{"SIGSTOP of a worker for 60 s, longer than its leases", stopPart(partWorker1, time.Minute), cluster},
		{"kill -9 of Temporal, away for 10 s", killPart(partTemporal, 10*time.Second), cluster},
		{"rolling restart of the workers and the API", rollingRestart, cluster},
		{"encryption keys rotated, as documented", rotateKeys, cluster},
		{"encryption keys rotated, the workers last", rotateKeysHastily, cluster},
	}
}

func databaseFaults() []fault {
	return []fault{
		{"disk full for 8 s, under SQLite", fillDisk, onSQLite},
		{"disk full for 5 s, under PostgreSQL", fillPostgres, onPostgres},
		{"PostgreSQL read-only for 5 s", readOnly, onPostgres},
		{"PostgreSQL stopped at once, and recovering", crashPostgres, onPostgres},
		{"PostgreSQL sessions ended, five times", endSessions, onPostgres},
		{"PostgreSQL loses its last seconds (a standby that lagged)", losePostgres, onPostgres},
		{"Temporal's PostgreSQL loses its last seconds", loseTemporal, cluster},
		{"the database's clock 90 s ahead for 40 s, and back", stepClock, onPostgres},
	}
}

func workflowFaults() []fault {
	return []fault{
		{"open workflows terminated", endWorkflows(client.Client.TerminateWorkflow), everywhere},
		{"open workflows cancelled", cancelWorkflows, everywhere},
	}
}

func receiverFaults() []fault {
	return []fault{
		{"a storm of events to hostile receivers", storm, everywhere},
		{"a good receiver answers 500 for 5 s", badMood(hostile.Status(http.StatusInternalServerError)), everywhere},
		{"a good receiver hangs for 5 s", badMood(hostile.Hang), everywhere},
		{"a good receiver closes its connections for 5 s", badMood(hostile.Close), everywhere},
		{"a webhook paused and resumed", pauseAndResume, everywhere},
		{"a webhook that a 410 has disabled resumed", resumeGone, everywhere},
	}
}

func linkFaults(layout string) (all []fault) {
	for _, name := range linksOf(layout) {
		all = append(all,
			fault{"cut for 3 s: " + name, harmLink(name, cut, 3*time.Second), everywhere},
			fault{"delayed by 0.3 s for 8 s: " + name, harmLink(name, delay, 8*time.Second), everywhere},
			fault{"dropped for 8 s: " + name, harmLink(name, drop, 8*time.Second), everywhere},
		)
	}
	return all
}
