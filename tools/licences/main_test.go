package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Guards against a licence that nobody looked at: one that is not on the list, or a text that is none.
func TestLicencesAreRecognized(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../LICENSE")
	require.NoError(t, err)
	own := string(text)
	write := func(files map[string]string) *module {
		m := &module{path: "example.com/m", version: "v1.0.0", root: t.TempDir()}
		m.packages = []string{m.root, filepath.Join(m.root, "a", "b")}
		require.NoError(t, os.MkdirAll(filepath.Join(m.root, "a", "b"), 0o700))
		require.NoError(t, os.MkdirAll(filepath.Join(m.root, "unused"), 0o700))
		for name, text := range files {
			require.NoError(t, os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o600))
		}
		return m
	}
	const gplID = "GPL-3.0-or-later"
	const gpl = "This program is free software: you can redistribute it and/or modify it under the terms of the " +
		"GNU General Public License as published by the Free Software Foundation, either version 3 of the License, " +
		"or (at your option) any later version.\n"
	for name, c := range map[string]struct {
		files   map[string]string
		found   []string
		problem string
	}{
		"none":                {nil, nil, "has no licence file"},
		"MIT":                 {map[string]string{"LICENSE": own}, []string{"MIT"}, ""},
		"spelt otherwise":     {map[string]string{"Licence.md": own}, []string{"MIT"}, ""},
		"two":                 {map[string]string{"LICENSE-MIT": own, "COPYING": gpl}, []string{gplID, "MIT"}, "COPYING is " + gplID},
		"of a package":        {map[string]string{"LICENSE": own, "a/LICENSE": gpl}, []string{gplID, "MIT"}, "a/LICENSE is " + gplID},
		"of what is not used": {map[string]string{"LICENSE": own, "unused/LICENSE": gpl}, []string{"MIT"}, ""},
		"unknown":             {map[string]string{"LICENSE": "Do what you like on Tuesdays."}, nil, "that is not recognized"},
		"more than it says": {
			map[string]string{"LICENSE": own + strings.Repeat("And you owe us a horse. ", 100)}, []string{"MIT"}, "not recognized",
		},
	} {
		found, problems, err := write(c.files).licences()
		require.NoError(t, err)
		require.Equal(t, c.found, found, name)
		if c.problem == "" {
			require.Empty(t, problems, name)
			continue
		}
		require.Len(t, problems, 1, name)
		require.Contains(t, problems[0], c.problem, name)
	}
}

// Guards against a check that looks at nothing.
func TestModulesAreFound(t *testing.T) {
	t.Parallel()
	modules, err := modulesOf([]string{"../.."})
	require.NoError(t, err)
	paths := map[string]bool{}
	for _, m := range modules {
		paths[m.path] = true
		require.NotEmpty(t, m.packages)
	}
	for _, path := range []string{"github.com/lib/pq", "go.temporal.io/sdk", "modernc.org/sqlite", "github.com/stretchr/testify"} {
		require.True(t, paths[path], path)
	}
	require.False(t, paths[project])
	require.Error(t, run(io.Discard, []string{filepath.Join(t.TempDir(), "none")}, false))
}
