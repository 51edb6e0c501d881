package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider/store/sqldb"
)

// Queues are walked in the order of their keys, from workspace to workspace and from webhook
// to webhook. A skip scan looks up the next key in the index that holds the ready rows, again
// and again, so that the rows between two keys are not read.

// skipScan begins a statement with a table, found, of the queues that have ready rows of the
// kind, between the two given, in order, and a last NULL.
func skipScan(kind outboxKind, after, before string) *sqldb.Statement {
	condition := "WHERE " + ready(kind) + " AND o.queue < ? AND o.queue > "
	return sqldb.SQL(`WITH RECURSIVE found (queue) AS (
		SELECT * FROM (SELECT o.queue FROM outbox o `+condition+`? ORDER BY o.queue LIMIT 1) f
		UNION ALL
		SELECT (SELECT o.queue FROM outbox o `+condition+`found.queue ORDER BY o.queue LIMIT 1) FROM found WHERE found.queue IS NOT NULL
	) `, before, after, before)
}

// selectFound reads the queues of a skip scan, up to a limit.
const selectFound = "SELECT queue FROM found WHERE queue IS NOT NULL LIMIT ?"

// Parts of a queue in the table found: the workspace is what is left when the characters that
// ids are made of are taken off its end.
const (
	idCharacters      = "'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-'"
	workspaceOfQueue  = "RTRIM(found.queue, " + idCharacters + ")" // with the stroke after it
	webhookOfQueue    = "REPLACE(found.queue, " + workspaceOfQueue + ", '')"
	afterAll          = "~" // comes after all characters that ids are made of
	workspacesAtATime = 64
)

// workspaceSkipScan begins a statement with a table, found, of one queue a workspace that has
// ready rows of the kind, after the queue given, in order, and a last NULL.
func workspaceSkipScan(kind outboxKind, after string) *sqldb.Statement {
	condition := "WHERE " + ready(kind) + " AND o.queue > "
	return sqldb.SQL(`WITH RECURSIVE found (queue) AS (
		SELECT * FROM (SELECT o.queue FROM outbox o `+condition+`? ORDER BY o.queue LIMIT 1) f
		UNION ALL
		SELECT (SELECT o.queue FROM outbox o `+condition+workspaceOfQueue+` || '`+afterAll+`' ORDER BY o.queue LIMIT 1)
			FROM found WHERE found.queue IS NOT NULL
	) `, after)
}

// splitQueue returns the workspace and the webhook of a queue.
func splitQueue(queue string) (workspaceID, webhookID string) {
	workspaceID, webhookID, _ = strings.Cut(queue, "/")
	return workspaceID, webhookID
}

// rounds remembers where walks ended, so that the next ones go on there. It is safe for
// concurrent use.
type rounds struct {
	mu        sync.Mutex
	workspace string            // the last that had a turn, where others have not had theirs
	queues    map[string]string // the last queue of a workspace that had a turn
}

// maxRounds bounds how many workspaces' walks are remembered.
const maxRounds = 4096

// ended notes which shares got rows. When the limit was not reached, all had what they
// wanted, and the next walks begin at the first queue.
func (r *rounds) ended(shares []*webhookShare, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !full || len(r.queues) > maxRounds {
		r.workspace, r.queues = "", map[string]string{}
	}
	if !full {
		return
	}
	for _, share := range shares {
		if len(share.claimed) > 0 {
			r.workspace, r.queues[share.workspaceID] = share.workspaceID, share.queue
		}
	}
}

// fewQueues is how many queues are read at once, without walks.
const fewQueues = 32

// ifFew returns all queues that have ready rows of the kind, if they are few, in the order in
// which walks would find them: from the workspace after the last one on, and in each from the
// queue after the last one on.
func (r *rounds) ifFew(ctx context.Context, q sqldb.Querier, kind outboxKind) ([]string, bool, error) {
	queues, err := skipScan(kind, "", afterAll).Add(selectFound, fewQueues+1).Strings(ctx, q)
	if err != nil || len(queues) > fewQueues {
		return nil, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// half is 0 for the keys that come before the round returns to the first one.
	half := func(key, last string) int {
		if key > last {
			return 0
		}
		return 1
	}
	slices.SortFunc(queues, func(a, b string) int {
		workspaceA, _ := splitQueue(a)
		workspaceB, _ := splitQueue(b)
		return cmp.Or(
			cmp.Compare(half(workspaceA, r.workspace), half(workspaceB, r.workspace)), cmp.Compare(workspaceA, workspaceB),
			cmp.Compare(half(a, r.queues[workspaceA]), half(b, r.queues[workspaceA])), cmp.Compare(a, b),
		)
	})
	return queues, true, nil
}

// walk goes once around the queues of one workspace.
type walk struct {
	workspaceID string
	start       string // the queue after which it began; "" at the first
	after       string
	wrapped     bool
	ended       bool
}

// seen is the workspaces that a claim has looked at.
type seen struct {
	workspaces map[string]bool
	last       string
	all        bool // there are no more
}

// walks returns walks for the workspaces whose turn it is, after those seen already, and
// notes them as seen. It also notes whether there may be more.
func (r *rounds) walks(ctx context.Context, q sqldb.Querier, kind outboxKind, seen *seen) ([]*walk, error) {
	find := func(after string) ([]string, error) {
		return workspaceSkipScan(kind, after).Add(selectFound, workspacesAtATime).Strings(ctx, q)
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
		workspaceID, _ := splitQueue(queue)
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

// nextQueues returns the next queues of the walks, up to each of every one, and notes which
// walks have ended. A walk that comes to its workspace's last queue goes on at the first one
// at once: otherwise the queues of other workspaces might leave it no room.
func nextQueues(ctx context.Context, tx *sqlx.Tx, kind outboxKind, walks []*walk, each int) ([]string, error) {
	first := slices.DeleteFunc(slices.Clone(walks), func(w *walk) bool { return w.wrapped })
	found, err := advanceAll(ctx, tx, kind, walks, each)
	if err != nil {
		return nil, err
	}
	around := slices.DeleteFunc(first, func(w *walk) bool { return !w.wrapped || w.ended })
	more, err := advanceAll(ctx, tx, kind, around, each)
	return append(found, more...), err
}

// advanceAll advances every walk by up to the given number of queues, and returns them.
func advanceAll(ctx context.Context, tx *sqlx.Tx, kind outboxKind, walks []*walk, each int) ([]string, error) {
	var found []string
	for part := range slices.Chunk(walks, maxCompound) {
		st := &sqldb.Statement{}
		for i, w := range part {
			if i > 0 {
				st.Add(" UNION ALL ")
			}
			scan := skipScan(kind, w.after, w.workspaceID+"/"+afterAll)
			st.Add("SELECT * FROM (").Append(scan).Add(selectFound+") w", each)
		}
		queues, err := st.Strings(ctx, tx)
		if err != nil {
			return nil, err
		}
		byWorkspace := map[string][]string{}
		for _, queue := range queues {
			workspaceID, _ := splitQueue(queue)
			byWorkspace[workspaceID] = append(byWorkspace[workspaceID], queue)
		}
		for _, w := range part {
			found = append(found, w.advance(byWorkspace[w.workspaceID], each)...)
		}
	}
	return found, nil
}

// advance moves the walk over the queues found, of each that it asked for, and returns the
// queues that it had not come to before.
func (w *walk) advance(queues []string, each int) []string {
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
