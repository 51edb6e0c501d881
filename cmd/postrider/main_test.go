package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// asBinary makes the test's program behave as the binary.
const asBinary = "RUN_AS_POSTRIDER"

func TestMain(m *testing.M) {
	if os.Getenv(asBinary) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// run runs the binary with variables of the environment, and returns its exit code and output.
func run(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], args...)
	// Without the folder, a binary that counts coverage warns on standard error.
	command.Env = append([]string{asBinary + "=1", "GOCOVERDIR=" + t.TempDir()}, env...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	var failed *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &failed) {
		require.NoError(t, err)
	}
	return command.ProcessState.ExitCode(), out.String(), errs.String()
}

// Guards against a mistake that people do not find among pages of help, and against an exit code
// that does not tell a wrong setting from a failure.
func TestWrongUsageIsOneLine(t *testing.T) {
	t.Parallel()
	const keys = "POSTRIDER_ENCRYPTION_KEYS=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	const database = "POSTRIDER_DATABASE_URL="
	const (
		noDatabase    = "--database-url (POSTRIDER_DATABASE_URL): must be set to the postgres://"
		otherDatabase = "must start with postgres:// or postgresql://"
		noSQLite      = "SQLite is only in postrider-standalone"
	)
	for name, c := range map[string]struct {
		args []string
		env  []string
		want string
	}{
		"no command":             {nil, nil, `expected one of`},
		"unknown command":        {[]string{"srve"}, nil, `unexpected argument srve`},
		"unknown flag":           {[]string{"serve", "--lisen", "x"}, []string{keys}, `unknown flag --lisen`},
		"help of the command":    {[]string{"key", "create", "--nam", "x"}, nil, `(postrider key create --help tells more)`},
		"wrong value":            {[]string{"worker", "--max-in-flight", "0"}, []string{keys, database + "postgres://h/d"}, `--max-in-flight`},
		"no database":            {[]string{"serve"}, []string{keys}, noDatabase},
		"empty database":         {[]string{"api"}, []string{keys, database}, noDatabase},
		"unknown database":       {[]string{"serve"}, []string{keys, database + "mysql://u:password@h/d"}, otherDatabase},
		"SQLite":                 {[]string{"serve"}, []string{keys, database + "sqlite:x.db"}, noSQLite},
		"scheme without slashes": {[]string{"serve"}, []string{keys, database + "postgres:x.db"}, otherDatabase},
		"operators without one":  {[]string{"migrate", "up"}, nil, noDatabase},
		"operators' SQLite":      {[]string{"migrate", "status"}, []string{database + "sqlite:x.db"}, noSQLite},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := run(t, c.env, c.args...)
			require.Equal(t, 2, code)
			require.Empty(t, stdout)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
			require.True(t, strings.HasPrefix(stderr, "postrider: "), stderr)
			require.Contains(t, stderr, c.want)
			require.NotContains(t, stderr, "password")
		})
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, nil, "version")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "postrider ")
	code, stdout, _ = run(t, nil, "--help")
	require.Zero(t, code)
	words := strings.Join(strings.Fields(stdout), " ")
	for _, text := range []string{"Exit codes: 0 when", "1 when the command failed", "2 when an argument"} {
		require.Contains(t, words, text)
	}
	code, _, stderr = run(t, []string{"POSTRIDER_DATABASE_URL=postgres://u@127.0.0.1:1/d?sslmode=disable"}, "migrate", "status")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "database is not available")
}
