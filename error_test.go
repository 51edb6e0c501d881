package postrider_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestErrorsTellTheirCode(t *testing.T) {
	t.Parallel()
	require.Empty(t, postrider.CodeOf(errors.New("other")))
	require.Empty(t, postrider.CodeOf(nil))
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(postrider.NotFound("webhook")))
	wrapped := fmt.Errorf("read: %w", postrider.NotFound("webhook"))
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(wrapped))
	outer := &postrider.Error{Code: postrider.CodeUnavailable, Message: "away", Err: wrapped}
	require.Equal(t, postrider.CodeUnavailable, postrider.CodeOf(outer), "the outermost code counts")
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	err := &postrider.Error{Code: postrider.CodeUnavailable, Message: "away", Err: cause}
	require.ErrorIs(t, err, cause)
	require.EqualError(t, err, "away: cause")
	require.EqualError(t, postrider.NotFound("delivery"), "delivery not found")
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	require.NoError(t, postrider.Invalid(nil))
	err := postrider.Invalid([]postrider.FieldError{
		{Field: "timeout_ms", Message: "must be from 1000 to 30000", Value: 7}, {Field: "secret", Message: "is required"},
	})
	require.Equal(t, postrider.CodeInvalid, postrider.CodeOf(err))
	require.EqualError(t, err, "validation failed; timeout_ms must be from 1000 to 30000; secret is required")
	require.NotContains(t, err.Error(), "7", "a value may be a secret")
	var typed *postrider.Error
	require.ErrorAs(t, err, &typed)
	require.Equal(t, 7, typed.Fields[0].Value)
	require.Nil(t, typed.Fields[1].Value)
}
