package main

import (
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/cli"
)

// Guards against settings that nobody checks, because their struct is embedded in a command.
func TestSettingsAreValidated(t *testing.T) {
	t.Parallel()
	validate := func(args ...string) error {
		parser, err := kong.New(&commands{}, cli.Vars("none", time.Second))
		require.NoError(t, err)
		parsed, err := parser.Parse(args)
		if err != nil {
			return err
		}
		return cli.ValidateSettings(parsed)
	}
	for _, command := range []string{"run", "temporal", "health", "version"} {
		require.NoError(t, validate(command))
	}
	require.NoError(t, validate())
	for flag, bad := range map[string][]string{
		"--database-url":  {"POSTGRES://user:password@h/d", "mysql://user:password@h/d"},
		"--data-dir":      {"a?b", "a#b", "a%20b"},
		"--max-in-flight": {"0"},
		"--retention":     {"1h"},
	} {
		for _, value := range bad {
			err := validate(flag, value)
			require.ErrorContains(t, err, flag+" (POSTRIDER_", value)
			require.NotContains(t, err.Error(), "password")
		}
	}
	require.ErrorContains(t, validate("--temporal-listen", ""), "--temporal-listen")
	require.ErrorContains(t, validate("temporal", "--data-dir", "a?b"), "--data-dir")
}
