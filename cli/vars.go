package cli

import (
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"postrider.dev/postrider/signing"
)

// Vars returns the variables of help texts and defaults. Two of them differ between the
// binaries: a description of the networks that may be delivered to by default, and the
// shutdown timeout.
func Vars(allowNetworks string, shutdownTimeout time.Duration) kong.Vars {
	return kong.Vars{
		"allow_networks": allowNetworks, "shutdown_timeout": shutdownTimeout.String(), "signing_methods": signingMethods(),
	}
}

// signingMethods lists the signing methods in the form of an enum tag.
func signingMethods() string {
	methods := signing.Methods()
	names := make([]string, len(methods))
	for i, method := range methods {
		names[i] = string(method)
	}
	return strings.Join(names, ",")
}
