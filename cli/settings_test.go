package cli

import (
	"os"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// Guards against settings that nobody checks, because their struct is embedded in a command.
func TestEmbeddedSettingsAreValidated(t *testing.T) {
	t.Parallel()
	good := []string{"--database-url", "postgres://h/d", "--encryption-keys", testKeys}
	for want, args := range map[string][]string{
		"--database-url":    {"serve", "--database-url", "POSTGRES://user:password@h/d"},
		"POSTRIDER_ENCRYPT": {"api", "--encryption-keys", ""},
		"--max-in-flight":   {"worker", "--max-in-flight", "0"},
		"--retention":       {"serve", "--retention", "1h"},
		"--allow-networks":  {"serve", "--allow-networks", "10.0.0.0/33"},
		"--profile-listen":  {"api", "--profile-listen", "0.0.0.0:1"},
		"--temporal-tls":    {"worker", "--temporal-tls-cert", "cert.pem"},
	} {
		var commands struct {
			Serve  ServeCommand  `cmd:""`
			API    APICommand    `cmd:""`
			Worker WorkerCommand `cmd:""`
		}
		parser, err := kong.New(&commands, Vars("none", time.Second))
		require.NoError(t, err)
		parsed, err := parser.Parse(append([]string{args[0]}, good...))
		require.NoError(t, err)
		require.NoError(t, ValidateSettings(parsed))
		parsed, err = parser.Parse(append(append([]string{args[0]}, good...), args[1:]...))
		if err == nil {
			err = ValidateSettings(parsed)
		}
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "password")
	}
}

func TestEmptyVariablesAreUnset(t *testing.T) {
	for _, name := range []string{"POSTRIDER_LISTEN", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTHER_EMPTY"} {
		t.Setenv(name, "")
	}
	t.Setenv("POSTRIDER_DATA_DIR", "x")
	require.NoError(t, unsetEmpty())
	for name, want := range map[string]bool{
		"POSTRIDER_LISTEN": false, "OTEL_EXPORTER_OTLP_ENDPOINT": false, "OTHER_EMPTY": true, "POSTRIDER_DATA_DIR": true,
	} {
		_, found := os.LookupEnv(name)
		require.Equal(t, want, found, name)
	}
}
