package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"
)

// Queues are walked in the order of their keys, from workspace to workspace and from
// webhook to webhook, by hopping from one key to the next in the index that holds what
// is ready: no row between them is read.

// hops begins a statement with a table of the queues that have ready rows of the kind,
// between the two given, in order, and a last NULL.
func hops(kind, after, before string) *statement {
	ready := "WHERE o.hold_until IS NULL AND o.kind = '" + kind + "' AND o.queue < ? AND o.queue > "
	return sqlOf(`WITH RECURSIVE hop (queue) AS (
		SELECT * FROM (SELECT o.queue FROM outbox o `+ready+`? ORDER BY o.queue LIMIT 1) f
		UNION ALL
		SELECT (SELECT o.queue FROM outbox o `+ready+`hop.queue ORDER BY o.queue LIMIT 1) FROM hop WHERE hop.queue IS NOT NULL
	) `, before, after, before)
}

// Parts of a queue's key in a table of hops: what ids are made of is taken off its end.
const (
	idCharacters      = "'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-'"
	workspaceOfHop    = "RTRIM(hop.queue, " + idCharacters + ")" // with its stroke
	webhookOfHop      = "REPLACE(hop.queue, " + workspaceOfHop + ", '')"
	afterAll          = "~" // comes after all that ids are made of
	workspacesAtATime = 64
)

// workspaceHops makes a table of one queue a workspace that has ready rows of the kind,
// after the workspace given, in order, and a last NULL.
func workspaceHops(kind string) string {
	ready := "WHERE o.hold_until IS NULL AND o.kind = '" + kind + "' AND o.queue > "
	return `WITH RECURSIVE hop (queue) AS (
		SELECT * FROM (SELECT o.queue FROM outbox o ` + ready + `? ORDER BY o.queue LIMIT 1) f
		UNION ALL
		SELECT (SELECT o.queue FROM outbox o ` + ready + workspaceOfHop + ` || '` + afterAll + `' ORDER BY o.queue LIMIT 1) FROM hop WHERE hop.queue IS NOT NULL
	) `
}

// split returns the workspace and the webhook of a queue.
func split(queue string) (workspaceID, webhookID string) {
	workspaceID, webhookID, _ = strings.Cut(queue, "/")
	return workspaceID, webhookID
}

// rounds remembers where walks ended, so that the next go on there. It is safe for
// concurrent use.
type rounds struct {
	mu        sync.Mutex
	workspace string            // the last that had a turn, where others have not had theirs
	queues    map[string]string // the last queue of a workspace that had a turn
}

// maxRounds bounds how many workspaces' walks are remembered.
const maxRounds = 4096

// ended notes which turns got something. When the limit was not reached, all had what
// they wanted, and the next walks begin at the first.
func (r *rounds) ended(turns []*turn, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !full || len(r.queues) > maxRounds {
		r.workspace, r.queues = "", map[string]string{}
	}
	if !full {
		return
	}
	for _, t := range turns {
		if len(t.taken) > 0 {
			r.workspace, r.queues[t.workspaceID] = t.workspaceID, t.queue
		}
	}
}

// few returns all queues that have ready rows of the kind, if they are few, in the order
// in which walks would find them: from the workspace after the last one on, and in each
// from the queue after the last one on.
func (r *rounds) few(ctx context.Context, q querier, kind string) ([]string, bool, error) {
	queues, err := ids(ctx, q, hops(kind, "", afterAll).add("SELECT queue FROM hop WHERE queue IS NOT NULL LIMIT ?", fewQueues+1))
	if err != nil || len(queues) > fewQueues {
		return nil, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Which of the two halves of a round a workspace, or a queue of one, is in.
	half := func(key, last string) int {
		if key > last {
			return 0
		}
		return 1
	}
	slices.SortFunc(queues, func(a, b string) int {
		workspaceA, _ := split(a)
		workspaceB, _ := split(b)
		return cmp.Or(
			cmp.Compare(half(workspaceA, r.workspace), half(workspaceB, r.workspace)), cmp.Compare(workspaceA, workspaceB),
			cmp.Compare(half(a, r.queues[workspaceA]), half(b, r.queues[workspaceA])), cmp.Compare(a, b),
		)
	})
	return queues, true, nil
}

// fewQueues is how many are read at once.
const fewQueues = 32

// walk goes once around the queues of one workspace.
type walk struct {
	workspaceID string
	start       string // the queue after which it began; "" at the first
	after       string
	wrapped     bool
	ended       bool
}

// walks returns walks for the workspaces whose turn it is, after those seen already, which
// it notes; and whether there may be more.
func (r *rounds) walks(ctx context.Context, q querier, kind string, seen *seen) ([]*walk, error) {
	find := func(after string) ([]string, error) {
		return ids(ctx, q, sqlOf(workspaceHops(kind), after).add("SELECT queue FROM hop WHERE queue IS NOT NULL LIMIT ?", workspacesAtATime))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last, after := cmp.Or(seen.last, r.workspace), ""
	if last != "" {
		after = last + "/" + afterAll
	}
	found, err := find(after)
	if err == nil && after != "" && len(found) < workspacesAtATime {
		var more []string
		more, err = find("")
		found = append(found, more...)
	}
	seen.all = len(found) < workspacesAtATime
	var walks []*walk
	for _, queue := range found {
		workspaceID, _ := split(queue)
		if seen.workspaces[workspaceID] || len(walks) == workspacesAtATime {
			continue
		}
		seen.workspaces[workspaceID], seen.last = true, workspaceID
		start := r.queues[workspaceID]
		walks = append(walks, &walk{workspaceID: workspaceID, start: start, after: max(start, workspaceID+"/")})
	}
	seen.all = seen.all || len(walks) == 0
	return walks, err
}

// seen is the workspaces that a claim has looked at.
type seen struct {
	workspaces map[string]bool
	last       string
	all        bool // there are no more
}

// next returns the next queues of the walks, up to each of every one, and says which
// walks have ended. A walk that comes to its workspace's last queue goes on at the first
// at once: otherwise other workspaces' might leave it none.
func next(ctx context.Context, tx *sqlx.Tx, kind string, walks []*walk, each int) ([]string, error) {
	first := slices.DeleteFunc(slices.Clone(walks), func(w *walk) bool { return w.wrapped })
	found, err := page(ctx, tx, kind, walks, each)
	if err != nil {
		return nil, err
	}
	around := slices.DeleteFunc(first, func(w *walk) bool { return !w.wrapped || w.ended })
	more, err := page(ctx, tx, kind, around, each)
	return append(found, more...), err
}

// page makes each walk go over as many queues.
func page(ctx context.Context, tx *sqlx.Tx, kind string, walks []*walk, each int) ([]string, error) {
	var found []string
	for part := range slices.Chunk(walks, maxCompound) {
		st := &statement{}
		for i, w := range part {
			if i > 0 {
				st.add(" UNION ALL ")
			}
			hop := hops(kind, w.after, w.workspaceID+"/"+afterAll)
			st.add("SELECT * FROM ("+hop.text.String(), hop.args...).add("SELECT queue FROM hop WHERE queue IS NOT NULL LIMIT ?) w", each)
		}
		queues, err := ids(ctx, tx, st)
		if err != nil {
			return nil, err
		}
		of := map[string][]string{}
		for _, queue := range queues {
			workspaceID, _ := split(queue)
			of[workspaceID] = append(of[workspaceID], queue)
		}
		for _, w := range part {
			found = append(found, w.went(of[w.workspaceID], each)...)
		}
	}
	return found, nil
}

// went moves the walk over the queues found, of each that it asked for, and returns
// those that are new to it.
func (w *walk) went(queues []string, each int) []string {
	slices.Sort(queues)
	full := len(queues) == each
	if full {
		w.after = queues[each-1]
	}
	if w.wrapped {
		around := slices.DeleteFunc(queues, func(queue string) bool { return queue > w.start })
		w.ended = !full || len(around) < each
		return around
	}
	if !full {
		w.wrapped, w.after = true, w.workspaceID+"/"
		w.ended = w.start == ""
	}
	return queues
}
