package egress

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// ErrExhausted says that this machine has no file descriptor, port or buffer left for a
// connection. That is no failure of the receiver, to which nothing was sent.
var ErrExhausted = errors.New("egress: this machine cannot open another connection")

// exhaustion returns ErrExhausted with its cause if err has one, and nil otherwise. It keeps no
// address.
func exhaustion(err error) error {
	for _, cause := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if caused(err, cause) {
			return fmt.Errorf("%w: %w", ErrExhausted, cause)
		}
	}
	return nil
}

func caused(err error, cause syscall.Errno) bool {
	var lookup *net.DNSError
	if errors.As(err, &lookup) && lookup.Unwrap() == nil {
		// Package net keeps no more than the text. A name server with an IPv6 address may be why no
		// address can be assigned.
		return cause != syscall.EADDRNOTAVAIL && strings.HasSuffix(lookup.Err, cause.Error())
	}
	var dialled *net.OpError
	if cause == syscall.EADDRNOTAVAIL && errors.As(err, &dialled) && isIPv6(dialled.Addr) {
		return false // said by a machine without an IPv6 address, too: the address is unreachable
	}
	return errors.Is(err, cause)
}

func isIPv6(addr net.Addr) bool {
	tcp, is := addr.(*net.TCPAddr)
	return is && tcp.IP.To4() == nil
}
