package api

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// Most requests are publishes, and most of their bodies are plain: they have every field
// once, under its exact name, no escapes in the strings of its fields other than data, and
// break no rule. Those are decoded the quick way, in one pass. The quick way gives up on any
// other body, valid or not. The thorough way then decodes it, or says which rules it breaks.
// Both decode a plain body to the same events; a test compares them.

// maxBatchBody is the limit of the body of a batch, in bytes. Each of its events has the
// limit [rest.MaxBody].
const maxBatchBody = 8 << 20

// eventBody is the body of a publish request. The data of its event is compact.
func eventBody(a *rest.API) rest.Body[publishEvent] { return quickFirst(thoroughEvent(a), plainEvent) }

// batchBody is the body of a batch request. The data of its events is compact.
func batchBody(a *rest.API) rest.Body[[]publishEvent] {
	return quickFirst(thoroughBatch(a), plainBatch)
}

// quickFirst returns a body that quick decodes if it is plain.
func quickFirst[T any](body rest.Body[T], quick func(raw []byte) (T, bool)) rest.Body[T] {
	thorough := body.Decode
	body.Decode = func(raw []byte) (T, error) {
		if value, plain := quick(raw); plain {
			return value, nil
		}
		return thorough(raw)
	}
	return body
}

func thoroughEvent(a *rest.API) rest.Body[publishEvent] {
	schema := rest.SchemaOf[publishEvent](a)
	return rest.Body[publishEvent]{Schema: schema, Limit: rest.MaxBody, Decode: func(raw []byte) (event publishEvent, err error) {
		if _, err = a.CheckObject(raw, schema); err == nil {
			event, err = decodeEvent(raw, "body")
		}
		return event, err
	}}
}

func thoroughBatch(a *rest.API) rest.Body[[]publishEvent] {
	schema := rest.SchemaOf[publishBatch](a)
	return rest.Body[[]publishEvent]{Schema: schema, Limit: maxBatchBody, Decode: func(raw []byte) ([]publishEvent, error) {
		fields, err := a.CheckObject(raw, schema)
		if err != nil {
			return nil, err
		}
		return decodeBatch(fields["events"])
	}}
}

// decodeBatch decodes a list of events that keeps to its schema, the thorough way.
func decodeBatch(list json.RawMessage) ([]publishEvent, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(list, &items); err != nil {
		return nil, err
	}
	events := make([]publishEvent, len(items))
	for i, item := range items {
		if len(item) > rest.MaxBody {
			return nil, rest.TooLarge(batchLocation(i), rest.MaxBody)
		}
		var err error
		if events[i], err = decodeEvent(item, batchLocation(i)); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// batchLocation says where in the body an event of a batch stands.
func batchLocation(i int) string { return "body.events[" + strconv.Itoa(i) + "]" }

// decodeEvent decodes an event that keeps to its schema, the thorough way.
func decodeEvent(raw []byte, location string) (event publishEvent, err error) {
	if err = rest.Decode(raw, &event, location); err != nil {
		return event, err
	}
	var data bytes.Buffer
	err = json.Compact(&data, event.Data)
	event.Data = data.Bytes()
	return event, err
}

// plainEvent decodes the body of a publish request, and reports whether it is plain.
func plainEvent(raw []byte) (event publishEvent, plain bool) {
	body, valid := parseCompact(raw)
	plain = valid && body.readEvent(body.Result, &event)
	return event, plain
}

// plainBatch decodes the body of a batch request, and reports whether it is plain.
func plainBatch(raw []byte) (events []publishEvent, plain bool) {
	body, valid := parseCompact(raw)
	if !valid || !body.IsObject() {
		return nil, false
	}
	space := len(raw) - len(body.text)
	plain = every(body.Result, func(name, list gjson.Result) bool {
		return name.Str == "events" && events == nil && list.IsArray() && every(list, func(_, item gjson.Result) bool {
			var event publishEvent
			// The white space that compacting removed may all have been in this event.
			if len(events) == postrider.MaxBatch || len(item.Raw)+space > rest.MaxBody || !body.readEvent(item, &event) {
				return false
			}
			events = append(events, event)
			return true
		})
	})
	return events, plain && len(events) > 0
}

// compactJSON is JSON without white space.
type compactJSON struct {
	gjson.Result
	text []byte
}

// parseCompact removes the white space from JSON and parses it. It reports whether the text
// is valid JSON in UTF-8.
func parseCompact(raw []byte) (compactJSON, bool) {
	compact := bytes.NewBuffer(make([]byte, 0, len(raw)))
	if !utf8.Valid(raw) || json.Compact(compact, raw) != nil {
		return compactJSON{}, false
	}
	return compactJSON{gjson.ParseBytes(compact.Bytes()), compact.Bytes()}, true
}

// every reports whether visit accepts every field of an object, or every item of an array.
// It stops at the first that visit does not accept.
func every(value gjson.Result, visit func(name, value gjson.Result) bool) bool {
	accepted := true
	value.ForEach(func(name, value gjson.Result) bool {
		accepted = visit(name, value)
		return accepted
	})
	return accepted
}

// readEvent decodes an event, and reports whether it is plain.
func (c compactJSON) readEvent(value gjson.Result, event *publishEvent) bool {
	seen := make([]string, 0, plainFields)
	return value.IsObject() && every(value, func(name, field gjson.Result) bool {
		if slices.Contains(seen, name.Str) {
			return false
		}
		seen = append(seen, name.Str)
		if name.Str == "data" {
			event.Data = c.text[field.Index : field.Index+len(field.Raw)] // not copied
			return true
		}
		switch name.Str {
		case "ttl_seconds":
			return event.readTTL(field)
		case "headers":
			return event.readHeaders(field)
		}
		return event.readText(name.Str, field)
	}) && event.Type != "" && event.Data != nil
}

// plainFields is how many fields an event has.
const plainFields = 10

// longestTTL is the length of the longest ttl_seconds as text.
const longestTTL = 7

// readTTL sets ttl_seconds, and reports whether it is plain.
func (p *publishEvent) readTTL(value gjson.Result) bool {
	if value.Type == gjson.Null {
		return true
	}
	seconds, err := strconv.Atoi(value.Raw)
	p.TTLSeconds = &seconds
	return value.Type == gjson.Number && err == nil && len(value.Raw) <= longestTTL && seconds >= 1 && seconds <= postrider.MaxTTLSeconds
}

// readHeaders sets the headers, and reports whether they are plain.
func (p *publishEvent) readHeaders(value gjson.Result) bool {
	if value.Type == gjson.Null {
		return true
	}
	p.Headers = map[string]string{}
	return value.IsObject() && every(value, func(name, header gjson.Result) bool {
		_, twice := p.Headers[name.Str]
		p.Headers[name.Str] = header.Str
		return !twice && isPlainText(name) && isPlainText(header)
	}) && len(postrider.CheckHeaders(p.Headers)) == 0
}

// readText sets a field that is a text, and reports whether the field is plain: known, and of a value that keeps
// to the field's rule.
func (p *publishEvent) readText(name string, value gjson.Result) bool {
	switch name {
	case "type":
		p.Type = value.Str
		return isPlainText(value) && postrider.ValidEventType(p.Type)
	case "id":
		return setPlain(&p.ID, value, postrider.ValidEventID)
	case "persona_id":
		return setPlain(&p.PersonaID, value, func(s string) bool { return s != "" && postrider.CheckPersonaID(&s) == "" })
	case "webhook_id":
		return setPlain(&p.WebhookID, value, func(s string) bool { return s != "" && len(s) <= maxWebhookID })
	case "ordering_key":
		return setPlain(&p.OrderingKey, value, func(s string) bool {
			return s != "" && utf8.RuneCountInString(s) <= postrider.MaxOrderingKeyLength
		})
	case "timestamp":
		return setPlain(&p.Timestamp, value, rest.IsTime)
	case "deliver_at":
		return setPlain(&p.DeliverAt, value, rest.IsTime)
	}
	return false
}

// maxWebhookID is the longest webhook_id. Those that there are have less.
const maxWebhookID = 128

// setPlain sets an optional field, which stays nil for null, and reports whether it is plain.
func setPlain(field **string, value gjson.Result, rule func(string) bool) bool {
	if value.Type == gjson.Null {
		return true
	}
	*field = &value.Str
	return isPlainText(value) && rule(value.Str)
}

// isPlainText reports whether a value is a string without escapes. gjson unescapes some
// strings to other texts than encoding/json does.
func isPlainText(value gjson.Result) bool {
	return value.Type == gjson.String && len(value.Raw) == len(value.Str)+2
}
