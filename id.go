package postrider

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Prefixes of ids. An underscore and 32 hex digits follow. All ids except those of batches are
// public.
const (
	PrefixWebhook     = "wh"
	PrefixEvent       = "evt"
	PrefixBatch       = "bat" // deliveries that one workflow carries
	PrefixFanOut      = "fan" // deliveries of a large publication that have still to be made
	PrefixDelivery    = "dlv"
	PrefixWorkspace   = "ws"
	PrefixAPIKey      = "key"
	PrefixSecret      = "sec"
	PrefixReplay      = "rpl"
	PrefixAction      = "act" // what an operator did to a delivery
	PrefixAudit       = "aud" // entries of the audit log
	PrefixEventType   = "ety" // event types of a catalogue
	PrefixOperational = "opr" // operational events that have still to be published
)

// ticksPerMilli is the resolution of the time in an id. A UUIDv7 has 48 bits of milliseconds,
// and RFC 9562 section 6.2 (method 3) allows a fraction of a millisecond in the next 12 bits.
const ticksPerMilli = 4096

// IDs makes ids that sort by time. An id is a prefix, an underscore and a UUIDv7 (RFC 9562) in
// hex. The ids of one IDs are strictly increasing, even when the clock goes back. It is safe for
// concurrent use.
type IDs struct {
	now     func() time.Time
	entropy *bufio.Reader

	mu   sync.Mutex
	last int64   // ticks since the Unix epoch of the newest id
	tail [8]byte // buffer for randomness, so that New does not allocate it
}

// NewIDs returns a source of ids. It takes the time from now and randomness from entropy
// (crypto/rand.Reader outside tests).
func NewIDs(now func() time.Time, entropy io.Reader) *IDs {
	// The buffer saves a system call for each id, which would cost more than all the rest.
	return &IDs{now: now, entropy: bufio.NewReader(entropy)}
}

// New returns a new id with the prefix. It panics when the source of randomness fails, as
// crypto/rand does, because no caller could go on.
func (g *IDs) New(prefix string) string {
	tick, tail := g.next()
	return formatID(prefix, tick, tail)
}

func (g *IDs) next() (tick int64, tail [8]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := io.ReadFull(g.entropy, g.tail[:]); err != nil {
		panic("postrider: no randomness for an id: " + err.Error())
	}
	g.last = max(ticks(g.now()), g.last+1)
	return g.last, g.tail
}

// IDFloor returns the smallest id with the prefix that can be made at or after t. Ids are
// time-ordered, so a range of times is a range of ids. A time before 1970 counts as 1970,
// because no id is older.
func IDFloor(prefix string, t time.Time) string {
	return formatID(prefix, max(ticks(t), 0), [8]byte{})
}

// IDTime returns the time in an id, in UTC and whole microseconds. It returns an error with
// [CodeInvalid] for a string that is not an id of this project.
func IDTime(id string) (time.Time, error) {
	_, digits, found := strings.Cut(id, "_")
	raw, err := hex.DecodeString(digits)
	if !found || err != nil || len(raw) != 16 {
		return time.Time{}, &Error{Code: CodeInvalid, Message: fmt.Sprintf("%q is not an id", id)}
	}
	var millis int64
	for _, b := range raw[:6] {
		millis = millis<<8 | int64(b)
	}
	fraction := int64(raw[6]&0x0f)<<8 | int64(raw[7])
	nanos := fraction * int64(time.Millisecond) / ticksPerMilli
	return Timestamp(time.UnixMilli(millis).Add(time.Duration(nanos))), nil
}

// Timestamp returns t in the form of every time in the project: UTC, in whole microseconds (the
// resolution of PostgreSQL), without a monotonic clock reading.
func Timestamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// ticks returns the time in an id's resolution, since the Unix epoch.
func ticks(t time.Time) int64 {
	millis := t.UnixMilli()
	rest := t.Sub(time.UnixMilli(millis))
	return millis*ticksPerMilli + int64(rest*ticksPerMilli/time.Millisecond)
}

// maxIDLength is the length of the longest id with a prefix of the list above.
const maxIDLength = 36

func formatID(prefix string, tick int64, tail [8]byte) string {
	millis, fraction := tick/ticksPerMilli, tick%ticksPerMilli
	var raw [16]byte
	for i := range 6 {
		raw[i] = byte(millis >> (40 - 8*i))
	}
	raw[6] = 0x70 | byte(fraction>>8)
	raw[7] = byte(fraction)
	copy(raw[8:], tail[:])
	raw[8] = 0x80 | raw[8]&0x3f
	id := append(make([]byte, 0, maxIDLength), prefix...)
	return string(hex.AppendEncode(append(id, '_'), raw[:]))
}
