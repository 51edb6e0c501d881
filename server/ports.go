package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Ports are the listeners of a server. They are opened before anything else, so that a taken
// port is reported at once.
type Ports struct {
	API     net.Listener // nil in a process without an API
	Metrics net.Listener
	Profile net.Listener // nil in a process that cannot be profiled
}

// BindPorts opens the listeners of the settings; api is nil for a process without an API. It
// returns an error that names the flag when an address cannot be listened on.
func BindPorts(ctx context.Context, s Settings, api *APISettings) (_ *Ports, err error) {
	var ports Ports
	defer func() {
		if err != nil {
			ports.Close()
		}
	}()
	if ports.Metrics, err = Listen(ctx, "--metrics-listen", "POSTRIDER_METRICS_LISTEN", s.MetricsListen); err != nil {
		return nil, err
	}
	if s.ProfileListen != "" {
		if ports.Profile, err = Listen(ctx, "--profile-listen", "POSTRIDER_PROFILE_LISTEN", s.ProfileListen); err != nil {
			return nil, err
		}
	}
	if api != nil {
		if ports.API, err = Listen(ctx, "--listen", "POSTRIDER_LISTEN", api.Listen); err != nil {
			return nil, err
		}
	}
	return &ports, nil
}

// Close closes the listeners. A second Close does nothing.
func (p *Ports) Close() {
	for _, listener := range []net.Listener{p.API, p.Metrics, p.Profile} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

// Listen listens on a TCP address. Its error is that of [BindError].
func Listen(ctx context.Context, flag, env, address string) (net.Listener, error) {
	if address == "" { // it would mean any port of every address
		return nil, errors.New(flag + " (" + env + "): must be an address and a port, such as 127.0.0.1:0")
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	return listener, BindError(flag, env, address, err)
}

// BindError returns an error for an operator who gave an address that cannot be listened on: it
// names the flag and the variable that set it. It returns nil for a nil error.
func BindError(flag, env, address string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s %s: the port is taken; stop what uses it, or choose another with %s or %s (port 0 picks a free one)",
			flag, address, flag, env)
	default:
		return fmt.Errorf("%s %s (%s): cannot listen: %w", flag, address, env, err)
	}
}
