package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"postrider.dev/postrider/client"
	"postrider.dev/postrider/receiver"
)

// maxPage is the most items that the API answers at once.
const maxPage = 200

// errNotSure ends a command that was not confirmed.
var errNotSure = errors.New("nothing was done")

// session is a command that runs.
type session struct {
	*call
	client  *client.Client
	printer printer
	streams Streams
}

// Run implements the command.
func (n *nounCommand) Run(ctx context.Context) error {
	s := &session{
		call: n.call, streams: n.streams, client: client.New(client.Config{URL: n.APIURL, APIKey: n.call.key, UserAgent: "postrider-cli"}),
		printer: printer{out: n.streams.Out, json: n.Output == "json", columns: n.Columns},
	}
	if err := s.confirm(); err != nil {
		return err
	}
	err := s.run(ctx)
	if ctx.Err() != nil && s.watch { // a watch ends by Ctrl-C
		return nil
	}
	return s.explain(err)
}

func (s *session) run(ctx context.Context) error {
	switch {
	case s.watch && s.reads():
		return s.watchReads(ctx)
	case s.Pages:
		return s.list(ctx)
	}
	response, err := s.client.Do(ctx, s.request)
	if err != nil {
		return err
	}
	if len(response.Body) == 0 {
		fmt.Fprintln(s.streams.Err, "Done.")
		return nil
	}
	answer := gjson.ParseBytes(response.Body)
	if s.watch && answer.Get("id").String() != "" {
		return s.follow(ctx, answer)
	}
	return s.printer.answer(answer)
}

// confirm asks a person before something is destroyed. Without one it goes on: a script means what it says.
func (s *session) confirm() error {
	if !s.destroys() || s.sure || !s.streams.Asks {
		return nil
	}
	what := strings.TrimPrefix(s.request.Path, "/api/v1")
	fmt.Fprintf(s.streams.Err, "%s %s: %s Go on? [y/N] ", s.Noun, s.Verb, receiver.Escape(what))
	answer, _ := bufio.NewReader(s.streams.In).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errNotSure
	}
	return nil
}

// list prints a list, page after page. JSON is printed as it comes; a table needs all of it to be aligned.
func (s *session) list(ctx context.Context) error {
	var items []gjson.Result
	next, err := s.pages(ctx, func(page []gjson.Result) error {
		if s.printer.json {
			return s.printer.list(page)
		}
		items = append(items, page...)
		return nil
	})
	if err != nil {
		return err
	}
	if !s.printer.json {
		err = s.printer.list(items)
	}
	if next != "" {
		fmt.Fprintf(s.streams.Err, "There are more: --limit 0, or --cursor %s\n", receiver.Escape(next))
	}
	return err
}

// pages reads as many items as are to be shown, and returns the cursor of what is left.
func (s *session) pages(ctx context.Context, use func([]gjson.Result) error) (next string, err error) {
	request := s.request
	request.Query = cloneQuery(request.Query)
	left := s.limit
	for {
		size := maxPage
		if s.limit > 0 {
			size = min(left, maxPage)
		}
		request.Query.Set("limit", strconv.Itoa(size))
		response, err := s.client.Do(ctx, request)
		if err != nil {
			return "", err
		}
		page := gjson.ParseBytes(response.Body)
		items := page.Get("data").Array()
		if err := use(items); err != nil {
			return "", err
		}
		left -= len(items)
		next = page.Get("next_cursor").String()
		if next == "" || s.limit > 0 && left <= 0 {
			return next, nil
		}
		request.Query.Set("cursor", next)
	}
}

func cloneQuery(query map[string][]string) map[string][]string {
	clone := make(map[string][]string, len(query)+2)
	for name, values := range query {
		clone[name] = values
	}
	return clone
}

// explain writes a problem for people: a line for each broken rule, under the flag's name.
func (s *session) explain(err error) error {
	var p *client.Problem
	if !errors.As(err, &p) {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d %s: %s", p.Status, p.Title, p.Detail)
	for _, broken := range p.Errors {
		fmt.Fprintf(&text, "\n  %s: %s", s.place(broken.Location), broken.Message)
		if len(broken.Value) > 0 && string(broken.Value) != "null" {
			fmt.Fprintf(&text, " (was %s)", broken.Value)
		}
	}
	if p.RequestID != "" {
		fmt.Fprintf(&text, "\n  request id: %s", p.RequestID)
	}
	lines := strings.Split(text.String(), "\n")
	for i := range lines {
		lines[i] = receiver.Escape(lines[i])
	}
	return errors.New(strings.Join(lines, "\n"))
}

// place names the flag that a location in the request came from, with the location.
func (s *session) place(location string) string {
	in, name, _ := strings.Cut(location, ".")
	name, _, _ = strings.Cut(name, ".")
	name, _, _ = strings.Cut(name, "[")
	for _, f := range s.takes() {
		if f.In == in && f.Name == name && in != "path" {
			return "--" + f.flag() + " (" + location + ")"
		}
	}
	return location
}
