package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// built is the folder of the programs that TestMain built.
var built string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

// runTests builds the programs, runs the tests and looks for goroutines that are left.
func runTests(m *testing.M) int {
	var err error
	if built, err = os.MkdirTemp("", "postrider-bench-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(built) }()
	err = errors.Join(
		build(".", built+"/", ".", "./naive", "./floor"),
		build("../standalone", built+"/", "."),
		build("..", filepath.Join(built, "postrider"), "./cmd/postrider"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// build builds packages of the module in dir.
func build(dir, to string, packages ...string) error {
	command := exec.Command("go", append([]string{"build", "-C", dir, "-trimpath", "-o", to}, packages...)...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.Stderr = os.Stderr
	return command.Run()
}
