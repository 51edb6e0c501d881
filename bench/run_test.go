package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAwait(t *testing.T) {
	t.Parallel()
	r := &run{bench: &bench{runCommand: &runCommand{}}}
	n := 0
	grow := func(context.Context) (int, error) { n++; return n, nil }
	require.NoError(t, r.await(t.Context(), wait{what: "letters came", want: 2}, grow))

	stuck := func(context.Context) (int, error) { return 1, nil }
	err := r.await(t.Context(), wait{what: "letters came", want: 2, stall: time.Nanosecond}, stuck)
	require.EqualError(t, err, "1 of 2 letters came in 0s, and no more in the 1ns after that")
	err = r.await(t.Context(), wait{what: "letters came", want: 2, bound: time.Nanosecond}, stuck)
	require.EqualError(t, err, "1 of 2 letters came in 0s, which is all the time there was")

	broken := errors.New("nobody answers")
	err = r.await(t.Context(), wait{want: 2}, func(context.Context) (int, error) { return 0, broken })
	require.ErrorIs(t, err, broken)
}

func TestCharge(t *testing.T) {
	t.Parallel()
	m := metrics{cpuPer1000: 5}
	m.addCPUTime(500,
		map[string]time.Duration{serverProcess: time.Second, loadProcess: time.Second},
		map[string]time.Duration{serverProcess: 2 * time.Second, postgresProcess: time.Second, loadProcess: 4 * time.Second})
	require.Equal(t, metrics{
		cpuPer1000: 4, cpuPer1000 + "_" + serverProcess: 2, cpuPer1000 + "_" + postgresProcess: 2, cpuPer1000 + "_" + loadProcess: 6,
	}, m, "the load is in no sum")
}
