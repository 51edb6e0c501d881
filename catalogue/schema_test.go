package catalogue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"postrider.dev/postrider"
	"postrider.dev/postrider/catalogue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func compile(tb testing.TB, source string) *catalogue.Schema {
	tb.Helper()
	schema, err := catalogue.Compile([]byte(source))
	require.NoError(tb, err)
	return schema
}

// broken returns the rules that the data breaks, as "place rule".
func broken(tb testing.TB, source, data string) []string {
	tb.Helper()
	fields, err := compile(tb, source).Check(tb.Context(), "data", []byte(data))
	require.NoError(tb, err)
	texts := []string{}
	for _, f := range fields {
		require.Nil(tb, f.Value, "data stays out of answers")
		texts = append(texts, f.Field+" "+f.Message)
	}
	return texts
}

func TestCheckNamesPlaceAndRule(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		schema, data string
		want         []string
	}{
		"nothing broken":  {`{"type":"object"}`, `{"a":1}`, nil},
		"the data itself": {`{"type":"object"}`, `[]`, []string{"data must be of type object"}},
		"a field":         {`{"properties":{"a":{"type":["string","null"]}}}`, `{"a":1}`, []string{"data.a must be of type null or string"}},
		"an item":         {`{"items":{"minimum":3}}`, `[3,2.9]`, []string{"data[1] must be at least 3"}},
		"deep":            {`{"properties":{"l":{"items":{"required":["x"]}}}}`, `{"l":[{"x":1},{}]}`, []string{"data.l[1].x is required"}},
		"name like index": {`{"properties":{"0":{"type":"null"}}}`, `{"0":1}`, []string{"data.0 must be of type null"}},
		"all of them":     {`{"required":["a","b"]}`, `{}`, []string{"data.a is required", "data.b is required"}},
		"no such property": {
			`{"properties":{"a":true},"additionalProperties":false}`, `{"b":1}`,
			[]string{"data.b is no property that the schema allows"},
		},
		"enum":           {`{"enum":["x",1.50]}`, `"y"`, []string{`data must be one of "x", 1.50`}},
		"enum by number": {`{"enum":["x",1.50]}`, `1.5`, nil},
		"alternatives":   {`{"anyOf":[{"type":"string"},{"type":"null"}]}`, `1`, []string{"data does not keep to the schema's anyOf"}},
		"reference": {
			`{"$defs":{"n":{"exclusiveMinimum":0}},"properties":{"a":{"$ref":"#/$defs/n"}}}`, `{"a":0}`,
			[]string{"data.a must be more than 0"},
		},
		"2020-12's items":  {`{"prefixItems":[{"type":"string"}],"items":false}`, `["a",1]`, []string{"data[1] does not keep to the schema"}},
		"formats annotate": {`{"format":"email"}`, `"none"`, nil},
		"exact at the top": {`{"maximum":9007199254740992}`, `9007199254740993`, []string{"data must be at most 9007199254740992"}},
		"exact fractions":  {`{"multipleOf":0.01}`, `1234567890123456.07`, nil},
		"exact equality":   {`{"const":0.1}`, `0.10000000000000000001`, []string{"data must be 0.1"}},
		"an integer":       {`{"type":"integer"}`, `1e2`, nil},
		"a long number": {
			`{"type":"number"}`, `1e999999999`,
			[]string{"data must have no number of more than 400 digits, for a type with a schema"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ElementsMatch(t, test.want, broken(t, test.schema, test.data))
		})
	}
}

func TestCheckNamesTenRulesAtMost(t *testing.T) {
	t.Parallel()
	require.Len(t, broken(t, `{"items":{"type":"string"}}`, `[`+strings.Repeat("1,", 99)+`1]`), 10)
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`{"$ref":"https://example.com/other.json"}`:                        "must not refer to another document",
		`{"$ref":"file:///etc/passwd"}`:                                    "must not refer to another document",
		`{"$ref":"other.json"}`:                                            "must not refer to another document",
		`{"$id":"https://example.com/a/","$ref":"other.json"}`:             "must not refer to another document",
		`{"properties":{"a":{"$ref":"#/$defs/none"}}}`:                     "is no JSON Schema",
		`{"type":"strnig"}`:                                                "at type:",
		`{"properties":{"a":{"minLength":-1}}}`:                            "at properties.a.minLength: must be at least 0",
		`{"pattern":"("}`:                                                  "at pattern: is no valid regex",
		`{"pattern":"(a{1000}){50}"}`:                                      "at pattern: is no valid regex",
		`{"$schema":"http://json-schema.org/draft-07/schema#"}`:            "must be of the dialect https://json-schema.org/draft/2020-12/schema",
		`{"const":1e9999}`:                                                 "must have no number of more than 400 digits",
		`{"enum":[` + strings.Repeat("1,", 2000) + `1]}`:                   "must have at most 2000 values",
		strings.Repeat(`{"not":`, 70) + `{}` + strings.Repeat(`}`, 70):     "must not be nested deeper than 64 levels",
		`{"description":"` + strings.Repeat("x", postrider.MaxSchemaBytes): "must have at most 65536 bytes",
	} {
		_, err := catalogue.Compile([]byte(source))
		require.ErrorContains(t, err, want, "%.60s", source)
		require.NotContains(t, err.Error(), "postrider:", "%.60s", source)
	}
	for _, source := range []string{
		`{"$schema":"https://json-schema.org/draft/2020-12/schema"}`, `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, `{}`, `true`,
	} {
		compile(t, source)
	}
}

// doubling returns a schema that applies 2^n schemas to a value.
func doubling(n int, format string) string {
	lines := []string{`"a0":{"type":"string"}`}
	for i := range n {
		lines = append(lines, fmt.Sprintf(format, i+1, i, i))
	}
	return fmt.Sprintf(`{"$defs":{%s},"not":{"$ref":"#/$defs/a%d"}}`, strings.Join(lines, ","), n)
}

// Guards the process: a few lines of a schema can ask for more work than there is time.
func TestCheckOfACostlySchemaEnds(t *testing.T) {
	t.Parallel()
	inside := `"a%d":{"dependentSchemas":{"x":{"$ref":"#/$defs/a%d"},"y":{"$ref":"#/$defs/a%d"}}}`
	beside := `"a%d":{"anyOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]}`
	for name, test := range map[string]struct{ schema, data string }{
		"doubling beside": {doubling(60, beside), `{"x":1,"y":1}`},
		"doubling inside": {doubling(60, inside), `{"x":1,"y":1}`},
		"a pattern":       {`{"pattern":"^(a|ab|b{1,30}c?){10}$"}`, `"` + strings.Repeat("ab", 130_000) + `"`},
		"an enum":         {`{"items":{"enum":[` + strings.Repeat("1.5,", 1900) + `2]}}`, `[` + strings.Repeat("3,", 50_000) + `3]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, []string{"data takes too many steps to check against the schema of its type"}, broken(t, test.schema, test.data))
		})
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("late")
	cancel(late)
	_, err := compile(t, doubling(60, `"a%d":{"anyOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]}`)).Check(ctx, "data", []byte(`{}`))
	require.ErrorIs(t, err, late)
}

func TestCheckIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	schema := compile(t, `{"items":{"type":"integer"}}`)
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 50 {
				fields, err := schema.Check(t.Context(), "data", []byte(`[1,2,"x"]`))
				require.NoError(t, err)
				require.Len(t, fields, 1)
			}
		})
	}
}
