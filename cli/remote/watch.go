package remote

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"postrider.dev/postrider/client"
	"postrider.dev/postrider/receiver"
)

// clear moves a terminal's cursor to its beginning and removes all that is there.
const clear = "\x1b[H\x1b[2J"

// watchReads shows what was asked for again and again: on a terminal the whole of it, elsewhere what is new or
// has changed.
func (s *session) watchReads(ctx context.Context) error {
	if s.Pages {
		return s.watchList(ctx)
	}
	response, err := s.client.Do(ctx, s.request)
	if err != nil {
		return err
	}
	return s.watchObject(ctx, s.request, gjson.ParseBytes(response.Body))
}

func (s *session) watchList(ctx context.Context) error {
	seen := map[string]string{}
	for {
		var items []gjson.Result
		if _, err := s.pages(ctx, func(page []gjson.Result) error { items = append(items, page...); return nil }); err != nil {
			return err
		}
		changed := news(seen, items)
		if s.draws() {
			fmt.Fprint(s.streams.Out, clear)
			changed = items
		}
		if err := s.printer.list(changed); err != nil {
			return err
		}
		s.printer.headless = !s.draws() && len(seen) > 0
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
}

// news returns the items that are not as they were seen, the oldest first, and notes them.
func news(seen map[string]string, items []gjson.Result) []gjson.Result {
	var changed []gjson.Result
	for i := range items {
		item := items[len(items)-1-i]
		id := item.Get("id").String()
		if id == "" {
			id = item.Get("at").String()
		}
		if seen[id] != item.Raw {
			seen[id] = item.Raw
			changed = append(changed, item)
		}
	}
	return changed
}

// draws reports whether what is shown can be drawn over.
func (s *session) draws() bool { return s.streams.Draws && !s.printer.json }

// follow shows how what an answer tells of goes on.
func (s *session) follow(ctx context.Context, answer gjson.Result) error {
	path := s.Follow
	if _, after, found := strings.Cut(path, "}"); found {
		path = path[:strings.Index(path, "{")] + answer.Get("id").String() + after
	}
	return s.watchObject(ctx, client.Request{Method: "GET", Path: path}, answer)
}

// watchObject shows one thing until it has finished.
func (s *session) watchObject(ctx context.Context, request client.Request, object gjson.Result) error {
	last := ""
	for {
		if object.Raw != last {
			if err := s.show(object); err != nil {
				return err
			}
			last = object.Raw
		}
		if object.Get("finished_at").String() != "" {
			return s.end(object)
		}
		if err := s.wait(ctx); err != nil {
			return err
		}
		response, err := s.client.Do(ctx, request)
		if err != nil {
			return err
		}
		object = gjson.ParseBytes(response.Body)
	}
}

// show prints a state of what is watched: a bar of what has a progress, and anything else as it is.
func (s *session) show(object gjson.Result) error {
	line, hasProgress := progress(object)
	switch {
	case s.printer.json || !hasProgress && !s.streams.Draws:
		return s.printer.answer(object)
	case !hasProgress:
		fmt.Fprint(s.streams.Out, clear)
		return s.printer.answer(object)
	case s.streams.Draws:
		_, err := fmt.Fprint(s.streams.Out, "\r\x1b[K"+line)
		return err
	}
	_, err := fmt.Fprintln(s.streams.Out, line)
	return err
}

// end says how what was watched ended.
func (s *session) end(object gjson.Result) error {
	if _, hasProgress := progress(object); hasProgress && s.draws() {
		fmt.Fprintln(s.streams.Out)
	}
	if object.Get("state").String() == "failed" {
		reason := object.Get("last_error").String()
		return fmt.Errorf("%s failed%s", object.Get("id"), receiver.Escape(strings.TrimSuffix(": "+reason, ": ")))
	}
	return nil
}

// wait waits for the next look.
func (s *session) wait(ctx context.Context) error {
	waiting, stop := context.WithTimeout(ctx, s.interval)
	defer stop()
	<-waiting.Done()
	return ctx.Err()
}

// barWidth is how many characters a bar of progress has.
const barWidth = 30

// progress draws how far something is that counts what it matched and what it sent, in one line.
func progress(object gjson.Result) (line string, counts bool) {
	matched, sent := object.Get("matched"), object.Get("sent")
	if matched.Type != gjson.Number || sent.Type != gjson.Number {
		return "", false
	}
	share := 1.0
	if matched.Int() > 0 {
		share = min(1, sent.Float()/matched.Float())
	}
	full := int(share * barWidth)
	bar := strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
	id, state := receiver.Escape(object.Get("id").String()), receiver.Escape(object.Get("state").String())
	failed := orNone(object.Get("failed"))
	line = fmt.Sprintf("%s [%s] %3.0f %% %s of %s, %s failed, %s", id, bar, share*100, sent.Raw, matched.Raw, failed, state)
	if eta, err := time.Parse(time.RFC3339, object.Get("eta").String()); err == nil {
		line += ", done about " + eta.Format(time.TimeOnly) + " UTC"
	}
	return line, true
}

func orNone(number gjson.Result) string {
	if number.Type != gjson.Number {
		return "0"
	}
	return number.Raw
}
