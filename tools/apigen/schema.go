package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// schema is a schema of the document.
type schema struct {
	Ref                  string `json:"$ref"`
	Type                 kinds
	Description          string
	Format               string
	Properties           map[string]*schema
	AdditionalProperties json.RawMessage
	Required             []string
	Items                *schema
	Enum                 []any
	Default              json.RawMessage
	Examples             []json.RawMessage
	PatternDescription   string
	WriteOnly            bool
	Minimum, Maximum     *json.Number
	MinLength, MaxLength *int
	MinItems, MaxItems   *int
	MaxProperties        *int
}

// kinds are the JSON types of a schema, of which one may be null.
type kinds []string

// UnmarshalJSON implements [json.Unmarshaler]: a name, or a list of names.
func (k *kinds) UnmarshalJSON(text []byte) error {
	if text[0] == '[' {
		return json.Unmarshal(text, (*[]string)(k))
	}
	var name string
	err := json.Unmarshal(text, &name)
	*k = kinds{name}
	return err
}

// name returns the name of the component that the schema refers to.
func (s *schema) name() string { return s.Ref[strings.LastIndex(s.Ref, "/")+1:] }

func (s *schema) nullable() bool { return slices.Contains(s.Type, "null") }

// kind returns the JSON type beside null, or "" for any JSON.
func (s *schema) kind() string {
	for _, kind := range s.Type {
		if kind != "null" {
			return kind
		}
	}
	return ""
}

// isMap reports whether the schema is of an object whose keys are free, with texts or numbers as values.
func (s *schema) isMap() bool {
	return s.kind() == "object" && len(s.Properties) == 0 && strings.HasPrefix(string(s.AdditionalProperties), "{")
}

// values returns the schema of the values of a map.
func (s *schema) values() *schema {
	var values schema
	if json.Unmarshal(s.AdditionalProperties, &values) != nil {
		return &schema{}
	}
	return &values
}

// names returns the properties, those first that are always there: the document has them in the order
// of the code.
func (s *schema) names() []string {
	names := slices.Clone(s.Required)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (s *schema) requires(name string) bool { return slices.Contains(s.Required, name) }

// words returns the values of an enum, of the schema or of its items.
func (s *schema) words() []string {
	if s.Items != nil {
		return s.Items.words()
	}
	words := make([]string, len(s.Enum))
	for i, value := range s.Enum {
		words[i] = fmt.Sprint(value)
	}
	return words
}

// rules returns the rules of a value in words, such as "1 to 10; default 3".
func (s *schema) rules() string {
	var rules []string
	add := func(format string, args ...any) { rules = append(rules, fmt.Sprintf(format, args...)) }
	if words := s.words(); len(words) > 0 {
		add("one of %s", strings.Join(words, ", "))
	}
	if s.PatternDescription != "" && !strings.Contains(s.Description, s.PatternDescription) {
		add("%s", s.PatternDescription)
	}
	if s.Minimum != nil && s.Maximum != nil {
		add("%s to %s", *s.Minimum, *s.Maximum)
	}
	if span := between(s.MinLength, s.MaxLength); span != "" {
		add("%s characters", span)
	}
	if span := between(s.MinItems, s.MaxItems); span != "" {
		add("%s items", span)
	}
	if s.Default != nil {
		add("default %s", strings.Trim(string(s.Default), `"`))
	}
	return strings.Join(rules, "; ")
}

func between(low, high *int) string {
	switch {
	case high == nil:
		return ""
	case low == nil || *low == 0:
		return "up to " + strconv.Itoa(*high)
	}
	return fmt.Sprintf("%d to %d", *low, *high)
}

// text returns the description with the rules behind it, as sentences.
func (s *schema) text() string {
	text := s.Description
	if text != "" && !strings.HasSuffix(text, ".") {
		text += "."
	}
	if rules := s.rules(); rules != "" {
		text += " " + strings.ToUpper(rules[:1]) + rules[1:] + "."
	}
	return strings.TrimSpace(text)
}
