package postrider_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// constants returns the values of a type's string constants, as the source declares them.
func constants(t *testing.T, file, typeName string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	var values []string
	ast.Inspect(parsed, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if declared, ok := spec.Type.(*ast.Ident); ok && declared.Name == typeName {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value) //nolint:errcheck,forcetypeassert // a panic fails the test
			require.NoError(t, err)
			values = append(values, value)
		}
		return true
	})
	require.NotEmpty(t, values)
	return values
}

func texts[T ~string](values []T) []string {
	var all []string
	for _, value := range values {
		all = append(all, string(value))
	}
	return all
}

// TestListsHaveEveryConstant guards against a constant that is missing in the list of its type,
// which enums, metrics and checks use.
func TestListsHaveEveryConstant(t *testing.T) {
	t.Parallel()
	require.Equal(t, constants(t, "delivery.go", "DeliveryState"), texts(postrider.DeliveryStates()))
	require.Equal(t, constants(t, "delivery.go", "Result"), texts(postrider.Results()))
	require.Equal(t, constants(t, "workspace.go", "Scope"), texts(postrider.Scopes()))
}

// tag returns a tag of a struct's field.
func tag(t *testing.T, of any, field, name string) string {
	t.Helper()
	found, ok := reflect.TypeOf(of).FieldByName(field)
	require.True(t, ok, field)
	return found.Tag.Get(name)
}

// TestTagsHaveTheLimits guards that the documented API, which is made of tags, has the limits that
// Validate checks.
func TestTagsHaveTheLimits(t *testing.T) {
	t.Parallel()
	require.Equal(t, strings.Join(texts(postrider.Results()), ","), tag(t, postrider.Attempt{}, "Result", "enum"))
	settings, policy := postrider.WebhookSettings{}, postrider.Policy{}
	for _, c := range []struct {
		of         any
		field, tag string
		want       int
	}{
		{settings, "URL", "maxLength", postrider.MaxURLLength},
		{settings, "Events", "maxItems", postrider.MaxEventPatterns},
		{settings, "Events", "maxLength", postrider.MaxEventTypeLength},
		{settings, "Name", "maxLength", postrider.MaxNameLength},
		{settings, "Description", "maxLength", postrider.MaxTextLength},
		{settings, "PersonaID", "maxLength", postrider.MaxTextLength},
		{settings, "Headers", "maxProperties", postrider.MaxHeaders},
		{settings, "RateLimit", "minimum", postrider.MinRateLimit},
		{settings, "RateLimit", "maximum", postrider.MaxRateLimit},
		{settings, "MaxInFlight", "minimum", postrider.MinMaxInFlight},
		{settings, "MaxInFlight", "maximum", postrider.MaxMaxInFlight},
		{policy, "TimeoutMS", "minimum", postrider.MinTimeoutMS},
		{policy, "TimeoutMS", "maximum", postrider.MaxTimeoutMS},
		{policy, "MaxRetries", "minimum", postrider.MinMaxRetries},
		{policy, "MaxRetries", "maximum", postrider.MaxMaxRetries},
		{policy, "BackoffMS", "minimum", postrider.MinBackoffMS},
		{policy, "BackoffMS", "maximum", postrider.MaxBackoffMS},
	} {
		require.Equal(t, strconv.Itoa(c.want), tag(t, c.of, c.field, c.tag), "%s of %s", c.tag, c.field)
	}
}

// TestFinishedStatesAreFinal guards which states end a delivery: retention deletes these, and no
// claim returns them.
func TestFinishedStatesAreFinal(t *testing.T) {
	t.Parallel()
	var finished []postrider.DeliveryState
	for _, state := range postrider.DeliveryStates() {
		if state.Finished() {
			finished = append(finished, state)
		}
	}
	require.Equal(t, []postrider.DeliveryState{postrider.StateSucceeded, postrider.StateFailed, postrider.StateCancelled}, finished)
}

// TestTemporalGetsNoResponseText guards that the text goes, and that the caller's attempt keeps it.
func TestTemporalGetsNoResponseText(t *testing.T) {
	t.Parallel()
	text, status := "secret answer", 500
	attempt := postrider.Attempt{Number: 1, StatusCode: &status, ResponseExcerpt: &text, ResponseTruncated: true}
	without := attempt.WithoutBody()
	require.Nil(t, without.ResponseExcerpt)
	require.Equal(t, "secret answer", *attempt.ResponseExcerpt)
	without.ResponseExcerpt = &text
	require.Equal(t, attempt, without, "nothing else changes")
}

func TestOnly410IsGone(t *testing.T) {
	t.Parallel()
	require.False(t, postrider.Attempt{}.Gone(), "without an answer")
	for status := 200; status < 600; status++ {
		require.Equal(t, status == 410, postrider.Attempt{StatusCode: &status}.Gone(), "%d", status)
	}
}

func TestPolicyTimeout(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1500*time.Millisecond, postrider.Policy{TimeoutMS: 1500}.Timeout())
}
