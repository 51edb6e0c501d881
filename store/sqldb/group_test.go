package sqldb

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// gated is a group whose transactions begin when the test lets them.
type gated struct {
	*Group[int, int]
	entered chan []int
	let     chan error
}

func newGated(t *testing.T) *gated {
	t.Helper()
	g := &gated{entered: make(chan []int), let: make(chan error)}
	g.Group = NewGroup(t.Context(), func(int) int { return 1 }, func(_ context.Context, calls []int) ([]Answer[int], error) {
		g.entered <- calls
		if err := <-g.let; err != nil {
			return nil, err
		}
		answers := make([]Answer[int], len(calls))
		for i, n := range calls {
			answers[i].Value = n * n
		}
		return answers, nil
	})
	return g
}

type result struct{ value, square int }

func (g *gated) call(ctx context.Context, calls *sync.WaitGroup, n int, results chan<- result) {
	calls.Go(func() {
		square, err := g.Do(ctx, n)
		if err != nil {
			square = -1
		}
		results <- result{n, square}
	})
}

func TestGroupCollectsWhileBusy(t *testing.T) {
	t.Parallel()
	g := newGated(t)
	results := make(chan result, 10)
	var calls sync.WaitGroup
	g.call(t.Context(), &calls, 1, results)
	require.Equal(t, []int{1}, <-g.entered)
	ctx, leave := context.WithCancel(t.Context())
	for n := 2; n <= 5; n++ {
		g.call(t.Context(), &calls, n, results)
	}
	g.call(ctx, &calls, 6, results)
	g.let <- nil
	require.Equal(t, result{1, 1}, <-results)

	// The other calls come in one group or several, and each gets its own answer. A caller that
	// leaves gets no answer, and does not disturb the others.
	leave()
	seen := map[int]int{}
	for len(seen) < 5 {
		select {
		case <-g.entered:
			g.let <- nil
		case r := <-results:
			seen[r.value] = r.square
		}
	}
	require.Equal(t, 4, seen[2])
	require.Equal(t, 25, seen[5])
	calls.Wait()
	g.Close()
	g.Close()
	_, err := g.Do(t.Context(), 7)
	require.ErrorIs(t, err, ErrClosed)
}

func TestGroupRetriesAlone(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	runs := 0
	g := NewGroup(t.Context(), func(int) int { return 1 }, func(_ context.Context, calls []int) ([]Answer[int], error) {
		runs++
		for _, n := range calls {
			if n == 13 {
				return nil, bad
			}
		}
		return make([]Answer[int], len(calls)), nil
	})
	var calls []*call[int, int]
	for _, n := range []int{1, 13, 2} {
		calls = append(calls, &call[int, int]{ctx: t.Context(), in: n, done: make(chan Answer[int], 1)})
	}
	g.serve(t.Context(), calls)
	require.Equal(t, 4, runs)
	for i, want := range []error{nil, bad, nil} {
		require.ErrorIs(t, (<-calls[i].done).Err, want)
	}
	g.Close()
}

func TestGroupGivesUpTogetherWithoutDatabase(t *testing.T) {
	t.Parallel()
	runs := 0
	g := NewGroup(t.Context(), func(int) int { return 1 }, func(context.Context, []int) ([]Answer[int], error) {
		runs++
		return nil, &postrider.Error{Code: postrider.CodeUnavailable}
	})
	calls := []*call[int, int]{{ctx: t.Context(), done: make(chan Answer[int], 1)}, {ctx: t.Context(), done: make(chan Answer[int], 1)}}
	g.serve(t.Context(), calls)
	require.Equal(t, 1, runs)
	require.Error(t, (<-calls[0].done).Err)
	require.Error(t, (<-calls[1].done).Err)

	gone, leave := context.WithCancel(t.Context())
	leave()
	g.serve(t.Context(), []*call[int, int]{{ctx: gone, done: make(chan Answer[int], 1)}})
	require.Equal(t, 1, runs)
	g.Close()
}

// Guards against a group whose calls are run again one by one, each for as long as the first time.
func TestGroupThatTookTooLongIsNotRunAgain(t *testing.T) {
	t.Parallel()
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	runs := 0
	g := NewGroup(t.Context(), func(int) int { return 1 }, func(ctx context.Context, _ []int) ([]Answer[int], error) {
		runs++
		return nil, ctx.Err()
	})
	calls := []*call[int, int]{{ctx: t.Context(), done: make(chan Answer[int], 1)}, {ctx: t.Context(), done: make(chan Answer[int], 1)}}
	g.serve(late, calls)
	require.Equal(t, 1, runs)
	for _, c := range calls {
		require.Equal(t, postrider.CodeUnavailable, postrider.CodeOf((<-c.done).Err))
	}
	g.Close()
}

func TestGroupLimitsItsWeight(t *testing.T) {
	t.Parallel()
	g := NewGroup(t.Context(), func(n int) int { return n }, func(_ context.Context, calls []int) ([]Answer[int], error) {
		return make([]Answer[int], len(calls)), nil
	})
	collected := g.collect(t.Context(), &call[int, int]{in: groupWeight}, 2)
	require.Len(t, collected, 1)
	collected = g.collect(t.Context(), &call[int, int]{in: 1}, 2) // lingers, in vain
	require.Len(t, collected, 1)
	g.Close()

	waiting := Group[int, int]{weight: g.weight, calls: make(chan *call[int, int], 2)}
	waiting.calls <- &call[int, int]{in: 1}
	waiting.calls <- &call[int, int]{in: 1}
	collected = waiting.collect(t.Context(), &call[int, int]{in: 1}, 1)
	require.Len(t, collected, 3, "who waits comes along, expected or not")
}
