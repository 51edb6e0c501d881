package api

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"postrider.dev/postrider"
)

// Publishing is what the API does most, so the bodies that publishers really send
// are read in a quick way, with one pass of a JSON parser. It takes plain bodies
// only: every field once, under its plain name, strings without escapes, and no
// rule broken. Whatever is not plain, be it right or wrong, is left to the thorough
// way, [server.parseBody] and [decode], which also says what is wrong. For a plain
// body the two give the same.

// plainEvents returns the events of a publish request's body, nil when it is not
// plain.
func plainEvents(raw []byte) []publishEvent {
	compact := compactPlain(raw)
	var event publishEvent
	if compact == nil || !event.readPlain(compact) {
		return nil
	}
	return []publishEvent{event}
}

// plainBatch returns the events of a batch request's body, nil when it is not
// plain.
func plainBatch(raw []byte) []publishEvent {
	compact := compactPlain(raw)
	space := len(raw) - len(compact)
	var events []publishEvent
	batch := false
	plain := eachField(compact, func(name, list []byte) bool {
		first := !batch
		batch = true
		return first && string(name) == "events" && eachItem(list, func(item []byte) bool {
			var event publishEvent
			// All of the white space may have been this event's.
			if len(events) == postrider.MaxBatch || len(item)+space > maxBody || !event.readPlain(item) {
				return false
			}
			events = append(events, event)
			return true
		})
	})
	if !plain {
		return nil
	}
	return events
}

// compactPlain returns JSON without its white space, nil when it is no JSON or not
// UTF-8.
func compactPlain(raw []byte) []byte {
	if !utf8.Valid(raw) {
		return nil
	}
	compact := bytes.NewBuffer(make([]byte, 0, len(raw)))
	if json.Compact(compact, raw) != nil {
		return nil
	}
	return compact.Bytes()
}

// readPlain reads an event from compact JSON and reports whether it is plain.
func (p *publishEvent) readPlain(compact []byte) bool {
	plain := eachField(compact, func(name, value []byte) bool {
		switch string(name) {
		case "type":
			text := plainText(value)
			if p.Type != "" || text == nil || !postrider.ValidEventType(*text) {
				return false
			}
			p.Type = *text
			return true
		case "data":
			first := p.Data == nil
			p.Data = value
			return first
		case "id":
			return setPlain(&p.ID, value, postrider.ValidEventID)
		case "persona_id":
			return setPlain(&p.PersonaID, value, func(s string) bool { return s != "" && len(s) <= postrider.MaxTextLength })
		case "timestamp":
			return setPlain(&p.Timestamp, value, isTime)
		case "deliver_at":
			return setPlain(&p.DeliverAt, value, isTime)
		}
		return false
	})
	return plain && p.Type != "" && p.Data != nil
}

func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}

// setPlain sets a field to a string that keeps to its rule, or leaves it out for
// null, unless it was set.
func setPlain(field **string, value []byte, rule func(string) bool) bool {
	if string(value) == "null" {
		return *field == nil
	}
	text := plainText(value)
	if text == nil || *field != nil || !rule(*text) {
		return false
	}
	*field = text
	return true
}

// plainText returns what a JSON string without escapes says, nil for anything else.
func plainText(value []byte) *string {
	if value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 {
		return nil
	}
	text := string(value[1 : len(value)-1])
	return &text
}

// eachField gives the fields of a compact JSON object to visit, the names as they
// are spelled, and stops when that says so. It reports whether there was an object
// and visit never said no.
func eachField(compact []byte, visit func(name, value []byte) bool) bool {
	if len(compact) == 0 || compact[0] != '{' {
		return false
	}
	for rest := compact[1:]; rest[0] != '}'; {
		name := rest[:valueEnd(rest)]
		rest = rest[len(name)+1:] // and a colon
		value := rest[:valueEnd(rest)]
		if !visit(name[1:len(name)-1], value) {
			return false
		}
		rest = afterComma(rest[len(value):])
	}
	return true
}

// eachItem is eachField for an array.
func eachItem(compact []byte, visit func(item []byte) bool) bool {
	if compact[0] != '[' {
		return false
	}
	for rest := compact[1:]; rest[0] != ']'; {
		item := rest[:valueEnd(rest)]
		if !visit(item) {
			return false
		}
		rest = afterComma(rest[len(item):])
	}
	return true
}

// afterComma returns what comes after a comma, if there is one.
func afterComma(rest []byte) []byte {
	if rest[0] == ',' {
		return rest[1:]
	}
	return rest
}

// valueEnd returns the length of the compact JSON value that rest begins with.
func valueEnd(rest []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch rest[i] {
		case '"':
			i += stringEnd(rest[i:])
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i // a number or word that was the last of its object or array
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
}

// stringEnd returns where the JSON string that rest begins with has its closing
// quotation mark.
func stringEnd(rest []byte) int {
	for i := 1; ; i++ {
		i += bytes.IndexByte(rest[i:], '"')
		escapes := 0
		for rest[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}
