package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	c := runCommand{Runs: 1, Scale: 1, Table: 1, Scenarios: []string{"burst", "fanout", "paced100", "idle"}}
	require.NoError(t, c.Validate())
	plan, err := c.plan()
	require.NoError(t, err)
	require.Len(t, plan, 3)
	require.Len(t, plan[0].parts[0].steps, 4, "burst and fanout share a system")
	require.Equal(t, modes(), plan[0].modes)
	require.NotContains(t, plan[1].modes, naive)
	require.Len(t, plan[2].parts, 2)

	c.Modes = []string{"floor", "batch"}
	plan, err = c.plan()
	require.NoError(t, err)
	require.Len(t, plan, 2, "with the same modes, all three share a system")
	require.Equal(t, []mode{batch, floor}, plan[0].modes)
}

func TestSettingsNameTheFlag(t *testing.T) {
	t.Parallel()
	for rule, c := range map[string]runCommand{
		"--runs":      {Scale: 1, Table: 1},
		"--scale":     {Runs: 1, Table: 1},
		"--table":     {Runs: 1, Scale: 1},
		"--scenarios": {Runs: 1, Scale: 1, Table: 1, Scenarios: []string{"bursts"}},
		"--modes":     {Runs: 1, Scale: 1, Table: 1, Modes: []string{"double"}},
		"in [batch]":  {Runs: 1, Scale: 1, Table: 1, Scenarios: []string{"idle"}, Modes: []string{"floor"}},
	} {
		require.ErrorContains(t, c.Validate(), rule)
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	require.Equal(t, []mode{naive, single, batch, floor}, rotate(modes(), 0))
	require.Equal(t, []mode{batch, floor, naive, single}, rotate(modes(), 6))
}
