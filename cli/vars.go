package cli

import (
	"time"

	"github.com/alecthomas/kong"
)

// Vars returns what the help texts and defaults leave open, for they differ
// between the binaries: the networks that may be delivered to when nothing is
// set, in words, and the time to stop in.
func Vars(allowNetworks string, shutdownTimeout time.Duration) kong.Vars {
	return kong.Vars{"allow_networks": allowNetworks, "shutdown_timeout": shutdownTimeout.String()}
}
