package cli

import (
	"os"

	"github.com/mattn/go-isatty"

	"postrider.dev/postrider/cli/remote"
)

// streams are those of the process.
func streams() remote.Streams {
	return remote.Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Asks:  isatty.IsTerminal(os.Stdin.Fd()) && isatty.IsTerminal(os.Stderr.Fd()),
		Draws: isatty.IsTerminal(os.Stdout.Fd()),
	}
}
