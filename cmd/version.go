package cmd

import (
	"fmt"
	"runtime"
)

// VersionCommand prints the version.
type VersionCommand struct{}

// Run implements the command.
func (VersionCommand) Run() error {
	fmt.Printf("postrider %s (%s, %s/%s)\n", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
