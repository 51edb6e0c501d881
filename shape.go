package postrider

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// MaxBodyBytes is the largest body of a request to a receiver, and of an event that is published.
const MaxBodyBytes = 256 << 10

// Format says what of an event a webhook's receiver gets.
type Format string

// The formats.
const (
	FormatEnvelope    Format = "envelope"    // id, type, timestamp, persona_id and data
	FormatData        Format = "data"        // the data alone
	FormatThin        Format = "thin"        // the envelope without the data
	FormatCloudEvents Format = "cloudevents" // CloudEvents 1.0 in structured mode
)

// Formats returns every format.
func Formats() []Format {
	return []Format{FormatEnvelope, FormatData, FormatThin, FormatCloudEvents}
}

// Shape says which bytes are sent of an event. A delivery keeps the shape that its webhook had
// when the event was accepted, so that each attempt sends the same. The zero Shape is the
// envelope.
type Shape struct {
	Format    Format
	Transform string // a CEL expression; "" sends the format
	Source    string // what a CloudEvent says that it comes from, a URI
}

// Shape returns how the webhook's requests look.
func (w *Webhook) Shape() Shape {
	switch {
	case w.Transform != nil:
		return Shape{Transform: *w.Transform}
	case w.Format == FormatCloudEvents:
		return Shape{Format: w.Format, Source: "urn:postrider:" + w.WorkspaceID}
	case w.Format == FormatData, w.Format == FormatThin:
		return Shape{Format: w.Format}
	default:
		return Shape{}
	}
}

// ID returns the same short text for the same shape, and another one for any other; "" for the
// envelope.
func (s Shape) ID() string {
	if s == (Shape{}) {
		return ""
	}
	sum := sha256.Sum256([]byte(string(s.Format) + "\x00" + s.Source + "\x00" + s.Transform))
	return hex.EncodeToString(sum[:16])
}

// checkShape returns the rules that filter, transform and format break without their expressions'
// being looked at, which is shaping's task.
func (w *Webhook) checkShape() []FieldError {
	switch {
	case !slices.Contains(Formats(), w.Format):
		return []FieldError{{Field: "format", Message: "must be one of " + joined(Formats()), Value: w.Format}}
	case w.Transform != nil && w.Format != FormatEnvelope:
		return []FieldError{{Field: "transform", Message: "does not go with a format other than envelope"}}
	}
	return nil
}
