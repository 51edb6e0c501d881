package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/stretchr/testify/require"
)

const version = "v1.2.3"

// planted returns a release of a small project in a folder of its own, for the system and
// processor that the test runs on.
func planted(t *testing.T) release {
	t.Helper()
	goMod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(goMod), "\ngo ")
	require.True(t, found)
	goVersion, _, _ := strings.Cut(rest, "\n")
	folder := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/small\n\ngo " + goVersion + "\n",
		"cmd/small/main.go": "// Command small says its version.\npackage main\n\nimport \"fmt\"\n\n" +
			"var version = \"dev\"\n\nfunc main() { fmt.Println(name, version) }\n",
		"cmd/small/tagged.go": "//go:build tagged\n\npackage main\n\nconst name = \"small\"\n",
		"LICENSE":             "a licence", "README.md": "read me", "CHANGELOG.md": "## 1.2.3\n\nNew.\n",
	} {
		path := filepath.Join(folder, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return release{
		folder: folder, out: "dist", version: version, time: time.Unix(1_700_000_000, 0).UTC(),
		ldflags: "-X main.version=" + version, tags: "tagged",
		programs: []program{{"small", ".", "./cmd/small", "A small program"}},
		targets:  []target{{runtime.GOOS, runtime.GOARCH}},
		log:      t.Output(),
	}
}

// list returns the names in a folder with their contents.
func list(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	found := map[string]string{}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		require.NoError(t, err)
		found[entry.Name()] = string(content)
	}
	return found
}

func TestReleaseIsWholeAndReproducible(t *testing.T) {
	t.Parallel()
	first, second := planted(t), planted(t)
	require.NoError(t, os.MkdirAll(filepath.Join(first.folder, "dist"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(first.folder, "dist", "old"), nil, 0o644))
	require.NoError(t, first.run(t.Context()))
	require.NoError(t, second.run(t.Context()))
	dist := filepath.Join(first.folder, "dist")
	files := list(t, dist)
	require.Equal(t, files, list(t, filepath.Join(second.folder, "dist")), "the same from another folder")

	base := "small-v1.2.3-" + runtime.GOOS + "-" + runtime.GOARCH
	require.Len(t, files, 3, "and nothing old")
	require.Contains(t, files, base+".tar.gz")
	require.Contains(t, files, base+".cdx.json")

	sums := strings.Split(strings.TrimSpace(files["SHA256SUMS"]), "\n")
	require.Len(t, sums, 2)
	for _, line := range sums {
		sum, name, found := strings.Cut(line, "  ")
		require.True(t, found, line)
		actual, err := sumOf(filepath.Join(dist, name))
		require.NoError(t, err)
		require.Equal(t, hex.EncodeToString(actual), sum)
	}

	unpacked := unpackTar(t, strings.NewReader(files[base+".tar.gz"]), first.time)
	require.Equal(t, "read me", unpacked[base+"/README.md"])
	require.Contains(t, unpacked, base+"/LICENSE")
	require.Contains(t, unpacked, base+"/CHANGELOG.md")
	path := filepath.Join(t.TempDir(), "small")
	require.NoError(t, os.WriteFile(path, []byte(unpacked[base+"/small"]), 0o700))
	said, err := exec.CommandContext(t.Context(), path).Output()
	require.NoError(t, err)
	require.Equal(t, "small v1.2.3\n", string(said))

	requireBill(t, files[base+".cdx.json"])
}

// unpackTar returns the files of an archive, all of which have one time and nobody's name.
func unpackTar(t *testing.T, r io.Reader, at time.Time) map[string]string {
	t.Helper()
	plain, err := gzip.NewReader(r)
	require.NoError(t, err)
	require.True(t, plain.ModTime.IsZero())
	archive := tar.NewReader(plain)
	found := map[string]string{}
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		require.Equal(t, at, header.ModTime.UTC())
		require.Zero(t, header.Uid)
		require.Empty(t, header.Uname)
		require.Equal(t, strings.HasSuffix(header.Name, "/small"), header.Mode == 0o755)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		found[header.Name] = string(content)
	}
}

func requireBill(t *testing.T, text string) {
	t.Helper()
	bill := cdx.NewBOM()
	require.NoError(t, cdx.NewBOMDecoder(strings.NewReader(text), cdx.BOMFileFormatJSON).Decode(bill))
	require.Equal(t, cdx.SpecVersion1_6, bill.SpecVersion)
	require.Regexp(t, `^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, bill.SerialNumber)
	require.Equal(t, "2023-11-14T22:13:20Z", bill.Metadata.Timestamp)
	require.Equal(t, "pkg:golang/example.org/small/cmd/small@v1.2.3", bill.Metadata.Component.PackageURL)
	require.Len(t, *bill.Components, 1)
	require.Equal(t, "std", (*bill.Components)[0].Name)
}

func TestZip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.WriteFile(path, []byte("content"), 0o600))
	at := time.Unix(1_700_000_000, 0).UTC()
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		require.NoError(t, writeZip(w, "folder", []file{{"a.exe", path, 0o755}}, at))
	}
	require.Equal(t, first.Bytes(), second.Bytes())
	archive, err := zip.NewReader(bytes.NewReader(first.Bytes()), int64(first.Len()))
	require.NoError(t, err)
	require.Len(t, archive.File, 1)
	require.Equal(t, "folder/a.exe", archive.File[0].Name)
	require.Equal(t, fs.FileMode(0o755), archive.File[0].Mode())
	require.True(t, at.Equal(archive.File[0].Modified))
}

func TestModulesInTheBill(t *testing.T) {
	t.Parallel()
	r := release{version: version}
	info := &debug.BuildInfo{GoVersion: "go1.2.3", Deps: []*debug.Module{
		{Path: project, Version: "v0.0.0", Replace: &debug.Module{Path: "../"}},
		{Path: "example.org/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/new", Version: "v2.0.0"}},
		{Path: "example.org/c", Version: "v3.0.0", Sum: "h1:AQID"},
	}}
	found := r.components(info)
	urls := make([]string, len(found))
	for i, c := range found {
		urls[i] = c.PackageURL
	}
	require.Equal(t, []string{
		"pkg:golang/std@1.2.3", "pkg:golang/" + project + "@v1.2.3", "pkg:golang/example.org/new@v2.0.0", "pkg:golang/example.org/c@v3.0.0",
	}, urls)
	require.Equal(t, "010203", (*found[3].Hashes)[0].Value)
}

func TestChooses(t *testing.T) {
	t.Parallel()
	targets, err := chooseTargets(nil)
	require.NoError(t, err)
	require.Equal(t, allTargets(), targets)
	targets, err = chooseTargets([]string{"windows/amd64", "linux/arm64"})
	require.NoError(t, err)
	require.Equal(t, []target{{"windows", "amd64"}, {"linux", "arm64"}}, targets)
	require.Equal(t, "postrider.exe", targets[0].executable("postrider"))
	targets, err = chooseTargets([]string{"host"})
	require.NoError(t, err)
	require.Equal(t, []target{{runtime.GOOS, runtime.GOARCH}}, targets)
	_, err = chooseTargets([]string{"plan9/mips"})
	require.ErrorContains(t, err, "linux/amd64")
	_, err = choosePrograms([]string{"postman"})
	require.ErrorContains(t, err, "postrider-standalone")
}

func TestNotes(t *testing.T) {
	t.Parallel()
	changelog := "# Changelog\n\n## Unreleased\n\n### Added\n- Later.\n\n## [1.2.3] - 2026-01-31\n\n### Added\n- This.\n\n## 1.2.0\n- Old.\n"
	for version, want := range map[string]string{
		"v1.2.3": "### Added\n- This.", "1.2.0": "- Old.", "Unreleased": "### Added\n- Later.",
	} {
		notes, err := notesOf(changelog, version)
		require.NoError(t, err)
		require.Equal(t, want, notes)
	}
	_, err := notesOf(changelog, "v1.2")
	require.ErrorContains(t, err, `no section "## 1.2"`)
}

func TestNeedsVersionAndTime(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, run(t.Context(), []string{"--version", "v1"}, io.Discard), "--time")
}
