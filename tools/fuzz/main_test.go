package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// plant writes files into a new folder, each under its name.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return folder
}

const planted = `package planted

import "testing"

func FuzzSound(f *testing.F) {
	f.Add(1)
	f.Fuzz(func(*testing.T, int) {})
}

func FuzzBroken(f *testing.F) {
	f.Add(1)
	f.Fuzz(func(t *testing.T, n int) {
		if n != 1 {
			t.Error("not 1")
		}
	})
}
`

// Guards against a crash that ends with 0, and against one that keeps the other targets from their
// turn.
func TestFuzz(t *testing.T) {
	t.Parallel()
	folder := plant(t, map[string]string{
		"go.mod":               "module planted\n",
		"room/planted_test.go": planted,
		"other/go.mod":         "module other\n",
		"other/x_test.go":      "package other\n\nfunc FuzzOther(f *testing.F) {}\n",
	})
	var out bytes.Buffer
	err := run(t.Context(), []string{"--time", "2s", folder}, &out)
	require.ErrorContains(t, err, "./room FuzzBroken")
	require.NotContains(t, err.Error(), "FuzzSound")
	require.NotContains(t, out.String(), "FuzzOther")
	require.Contains(t, out.String(), "2 targets, 1s each")
	require.Contains(t, out.String(), "Failing input written to testdata/fuzz/FuzzBroken/")
	require.Regexp(t, `\n +[1-9]\d*  \./room FuzzSound\n`, out.String())
	require.Regexp(t, `\n +[1-9]\d*  executions in all\n$`, out.String())
	require.ErrorContains(t, run(t.Context(), []string{plant(t, nil)}, &out), "no fuzz target")
}
