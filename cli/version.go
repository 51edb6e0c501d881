package cli

import (
	"fmt"
	"runtime"

	"postrider.dev/postrider/server"
)

// VersionCommand prints the version.
type VersionCommand struct{}

// Run implements the command.
func (VersionCommand) Run() error {
	fmt.Printf("postrider %s (%s, %s/%s)\n", server.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
