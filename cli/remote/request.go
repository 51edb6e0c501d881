package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"postrider.dev/postrider/client"
)

// call is a command line that was understood.
type call struct {
	operation
	request  client.Request
	limit    int // of a list
	watch    bool
	interval time.Duration
	sure     bool // need not be asked
	key      string
}

// Validate implements kong's check of what was parsed: it makes the request, so that whatever is wrong with
// a command line is told before anything is sent.
func (n *nounCommand) Validate(parsed *kong.Context) error {
	chosen := parsed.Selected()
	if chosen == nil {
		return nil
	}
	o, known := n.verbs[chosen.Name]
	if !known {
		return nil
	}
	c := &call{operation: o}
	values := typed{chosen, n.streams.In}
	if err := errors.Join(c.readKey(n.APIKeyFile), checkURL(n.APIURL), c.build(values), c.readOptions(values)); err != nil {
		return err
	}
	n.call = c
	return nil
}

// readKey finds the API key. A flag for it would show it to other users of the machine.
func (c *call) readKey(file string) error {
	c.key = strings.TrimSpace(os.Getenv("POSTRIDER_API_KEY"))
	if file != "" {
		text, err := os.ReadFile(file) //nolint:gosec // the caller's own file
		if err != nil {
			return fmt.Errorf("--api-key-file: %w", err)
		}
		c.key = strings.TrimSpace(string(text))
	}
	if c.key == "" && !c.Open {
		return errors.New("no API key: set POSTRIDER_API_KEY, or name its file with --api-key-file")
	}
	return nil
}

func checkURL(text string) error {
	address, err := url.Parse(text)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return errors.New("--api-url (POSTRIDER_URL): must be http://HOST:PORT or https://HOST")
	}
	return nil
}

// typed has the values of a command line.
type typed struct {
	node *kong.Node
	in   io.Reader
}

// value returns what was given for a flag, or an invalid value.
func (t typed) value(flag string) reflect.Value {
	for _, f := range t.node.Flags {
		if f.Name == flag && !f.Target.IsZero() {
			return reflect.Indirect(f.Target)
		}
	}
	return reflect.Value{}
}

func (t typed) text(flag string) string {
	if value := t.value(flag); value.IsValid() {
		return value.String()
	}
	return ""
}

func (t typed) is(flag string) bool {
	value := t.value(flag)
	return value.IsValid() && value.Bool()
}

// argument returns a positional argument.
func (t typed) argument(name string) string {
	for _, p := range t.node.Positional {
		if p.Name == name {
			return p.Target.String()
		}
	}
	return ""
}

// content returns the text that a value stands for: @FILE and - are read.
func (t typed) content(flag, value string) ([]byte, error) {
	var text []byte
	var err error
	switch file, named := strings.CutPrefix(value, "@"); {
	case named:
		text, err = os.ReadFile(file) //nolint:gosec // the caller's own file
	case value == "-":
		text, err = io.ReadAll(t.in)
	default:
		return []byte(value), nil
	}
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return text, nil
}

// build makes the request.
func (c *call) build(t typed) error {
	c.request = client.Request{Method: c.Method, Path: c.Path, Query: url.Values{}, Header: http.Header{}, Once: c.Open}
	var errs []error
	for _, f := range c.takes() {
		value := t.value(f.flag())
		switch {
		case f.In == "path":
			c.request.Path = strings.Replace(c.request.Path, "{"+f.Name+"}", url.PathEscape(t.argument(f.Name)), 1)
		case f.In == "query" && value.IsValid():
			c.request.Query.Set(f.Name, plain(value))
		case f.In == "header" && value.IsValid():
			c.request.Header.Set(f.Name, plain(value))
		case f.In == "query" && f.Required:
			errs = append(errs, fmt.Errorf("--%s: is required", f.flag()))
		}
		c.request.Keyed = c.request.Keyed || f.In == "header"
	}
	if c.hasBody() {
		errs = append(errs, c.buildBody(t))
	}
	return errors.Join(errs...)
}

// plain writes a value outside of a body.
func plain(value reflect.Value) string {
	if value.Kind() == reflect.Slice {
		words := make([]string, value.Len())
		for i := range words {
			words[i] = value.Index(i).String()
		}
		return strings.Join(words, ",")
	}
	return fmt.Sprint(value.Interface())
}

// buildBody makes the body of --body and of the flags, which go before it.
func (c *call) buildBody(t typed) error {
	body := map[string]json.RawMessage{}
	given := t.text("body")
	if given != "" {
		text, err := t.content("body", given)
		if err != nil {
			return err
		}
		if json.Unmarshal(text, &body) != nil || body == nil {
			return errors.New("--body: must be a JSON object, @FILE or -")
		}
	}
	if unset := t.value("unset"); unset.IsValid() {
		for i := range unset.Len() {
			body[strings.ReplaceAll(unset.Index(i).String(), "-", "_")] = json.RawMessage("null")
		}
	}
	var errs []error
	for _, f := range c.in("body") {
		if value := t.value(f.flag()); value.IsValid() {
			text, err := t.write(f, value)
			errs = append(errs, err)
			body[f.Name] = text
		} else if f.Required && body[f.Name] == nil {
			errs = append(errs, fmt.Errorf("--%s: is required", f.flag()))
		}
	}
	c.request.Body = body
	return errors.Join(errs...)
}

// write writes a flag's value as JSON.
func (t typed) write(f field, value reflect.Value) (json.RawMessage, error) {
	if f.Kind != "json" && f.Kind != "number" && !f.Secret {
		return json.Marshal(value.Interface())
	}
	text, err := t.content(f.flag(), value.String())
	switch {
	case err != nil:
		return nil, err
	case f.Secret:
		return json.Marshal(strings.TrimRight(string(text), "\r\n"))
	case !json.Valid(text):
		return nil, fmt.Errorf("--%s: must be JSON, @FILE or -; a text needs its quotes: '\"text\"'", f.flag())
	}
	return text, nil
}

// readOptions reads the flags that are about the command and not about the request.
func (c *call) readOptions(t typed) error {
	c.watch, c.sure = t.is("watch"), t.is("yes")
	if c.Pages {
		for _, f := range t.node.Flags {
			if f.Name == "limit" {
				c.limit = int(f.Target.Int())
			}
		}
		if cursor := t.text("cursor"); cursor != "" {
			c.request.Query.Set("cursor", cursor)
		}
		if c.limit < 0 {
			return errors.New("--limit: must not be negative, but is " + strconv.Itoa(c.limit))
		}
	}
	if !c.watched() {
		return nil
	}
	var err error
	if c.interval, err = time.ParseDuration(t.text("interval")); err != nil || c.interval < 100*time.Millisecond {
		return errors.New("--interval: must be a time of at least 100ms, such as 2s")
	}
	return nil
}
