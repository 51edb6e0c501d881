package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

// release says which files to make, and from what.
type release struct {
	folder   string // the project's
	out      string // where the files go, from the project's folder
	version  string
	time     time.Time
	ldflags  string
	tags     string
	programs []program
	targets  []target
	log      io.Writer
}

// documents go into each archive.
func documents() []string { return []string{"LICENSE", "README.md", "CHANGELOG.md"} }

// run makes all files.
func (r release) run(ctx context.Context) error {
	out := filepath.Join(r.folder, r.out)
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // everybody may read a release
		return err
	}
	var names []string
	for _, t := range r.targets {
		for _, p := range r.programs {
			fmt.Fprintf(r.log, "%s for %s\n", p.name, t)
			made, err := r.pack(ctx, p, t)
			if err != nil {
				return fmt.Errorf("%s for %s: %w", p.name, t, err)
			}
			names = append(names, made...)
		}
	}
	return writeSums(out, names)
}

// pack makes the archive of a program for a target, and its bill of materials. It
// returns their names.
func (r release) pack(ctx context.Context, p program, t target) ([]string, error) {
	built, err := os.MkdirTemp("", "postrider-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(built)
	executable := filepath.Join(built, t.executable(p.name))
	if err := r.build(ctx, p, t, executable); err != nil {
		return nil, err
	}
	files := []file{{t.executable(p.name), executable, 0o755}}
	for _, name := range documents() {
		files = append(files, file{name, filepath.Join(r.folder, name), 0o644})
	}
	base := strings.Join([]string{p.name, r.version, t.system, t.processor}, "-")
	archive, bill := base+".tar.gz", base+".cdx.json"
	write := writeTar
	if t.system == "windows" {
		archive, write = base+".zip", writeZip
	}
	out := filepath.Join(r.folder, r.out)
	if err := create(filepath.Join(out, archive), func(w io.Writer) error { return write(w, base, files, r.time) }); err != nil {
		return nil, err
	}
	return []string{archive, bill}, create(filepath.Join(out, bill), func(w io.Writer) error {
		return r.writeBill(w, p, executable)
	})
}

// build compiles a program without C, so that it runs on any machine of its target, with
// the very Go that its go.mod names, so that a newer one does not change the bytes.
func (r release) build(ctx context.Context, p program, t target, executable string) error {
	toolchain, err := toolchainOf(filepath.Join(r.folder, p.module, "go.mod"))
	if err != nil {
		return err
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", r.tags, "-ldflags", r.ldflags, "-o", executable, p.pkg}
	command := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the words are this program's and its caller's
	command.Dir = filepath.Join(r.folder, p.module)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOTOOLCHAIN="+toolchain,
		"GOOS="+t.system, "GOARCH="+t.processor)
	command.Stdout, command.Stderr = r.log, r.log
	return command.Run()
}

// toolchainOf returns the Go of a go.mod as GOTOOLCHAIN names it.
func toolchainOf(path string) (string, error) {
	text, err := os.ReadFile(path) //nolint:gosec // a path of our own
	if err != nil {
		return "", err
	}
	parsed, err := modfile.ParseLax(path, text, nil)
	if err != nil {
		return "", err
	}
	if parsed.Go == nil {
		return "", fmt.Errorf("%s names no version of Go", path)
	}
	return "go" + parsed.Go.Version, nil
}

// create makes a file of what write writes.
func create(path string, write func(io.Writer) error) error {
	f, err := os.Create(path) //nolint:gosec // a path of our own
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// writeSums writes SHA256SUMS as sha256sum --check reads it.
func writeSums(out string, names []string) error {
	return create(filepath.Join(out, "SHA256SUMS"), func(w io.Writer) error {
		for _, name := range names {
			sum, err := sumOf(filepath.Join(out, name))
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "%x  %s\n", sum, name); err != nil {
				return err
			}
		}
		return nil
	})
}

func sumOf(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // a path of our own
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return hash.Sum(nil), err
}
