package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/cli"
)

// TestEveryCommandHelps guards that each command's --help lists each of its flags with its variable,
// that every flag has a help text, and that no placeholder is left in one.
func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	model, err := kong.New(&commands{}, cli.Vars("none", shutdownTimeout))
	require.NoError(t, err)
	leaves := model.Model.Leaves(false)
	require.GreaterOrEqual(t, len(leaves), 18)
	for _, leaf := range leaves {
		path := strings.Fields(leaf.FullPath())[1:]
		groups := leaf.AllFlags(false) // here and not side by side: it marks the flags, and commands share their parents'
		t.Run(strings.Join(path, " "), func(t *testing.T) {
			t.Parallel()
			var output bytes.Buffer
			exit := -1
			parser, err := kong.New(&commands{}, cli.Vars("none", shutdownTimeout), kong.Name("postrider"),
				kong.Writers(&output, &output), kong.Exit(func(code int) { exit = code }))
			require.NoError(t, err)
			_, _ = parser.Parse(append(path[:len(path):len(path)], "--help")) // kong goes on after the exit that is replaced here
			require.Zero(t, exit)
			text := output.String()
			require.NotContains(t, text, "${")
			require.NotEmpty(t, leaf.Help)
			for _, group := range groups {
				for _, flag := range group {
					require.NotEmpty(t, flag.Help, "%s", flag.Name)
					require.Contains(t, text, "--"+flag.Name)
					for _, name := range flag.Envs {
						require.Contains(t, strings.Join(strings.Fields(text), ""), "$"+name, "%s", flag.Name)
						require.Regexp(t, "^(POSTRIDER|OTEL)_[A-Z_]+$", name)
					}
				}
			}
		})
	}
}

// TestUnknownCommandsAndFlagsAreErrors guards against a misspelt setting that is ignored.
func TestUnknownCommandsAndFlagsAreErrors(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"unexpected argument srve":    {"srve"},
		"unknown flag --lisen":        {"listen", "--lisen", "127.0.0.1:0"},
		"expected one of":             {},
		"unexpected argument surplus": {"version", "surplus"},
	} {
		parser, err := kong.New(&commands{}, cli.Vars("none", shutdownTimeout))
		require.NoError(t, err)
		_, err = parser.Parse(args)
		require.ErrorContains(t, err, want)
	}
}

// Guards against a command that no command line can run: [cli.ValidateSettings] refuses embedded
// settings that nobody can validate.
func TestEveryCommandsSettingsCanBeValidated(t *testing.T) {
	t.Parallel()
	model, err := kong.New(&commands{}, cli.Vars("none", shutdownTimeout))
	require.NoError(t, err)
	for _, leaf := range model.Model.Leaves(false) {
		requireExported(t, leaf.Target.Type())
	}
}

func requireExported(t *testing.T, settings reflect.Type) {
	t.Helper()
	for i := range settings.NumField() {
		if field := settings.Field(i); field.Anonymous {
			require.True(t, field.IsExported(), "%s embeds %s", settings, field.Type)
			requireExported(t, field.Type)
		}
	}
}
