package client

import "encoding/json"

// Nullable is a field of a PATCH that may be null. The zero value is left out, so the field stays as it is.
type Nullable[T any] struct {
	value *T
	given bool
}

// Set changes a field to a value.
func Set[T any](value T) Nullable[T] { return Nullable[T]{value: &value, given: true} }

// Null changes a field to null.
func Null[T any]() Nullable[T] { return Nullable[T]{given: true} }

// IsZero reports whether the field is left out.
func (n Nullable[T]) IsZero() bool { return !n.given }

// MarshalJSON implements [json.Marshaler].
func (n Nullable[T]) MarshalJSON() ([]byte, error) { return json.Marshal(n.value) }

// UnmarshalJSON implements [json.Unmarshaler].
func (n *Nullable[T]) UnmarshalJSON(text []byte) error {
	n.given = true
	return json.Unmarshal(text, &n.value)
}
