package catalogue

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a schema, beside its length.
const (
	maxValues = 2000 // JSON values in a schema
	maxDepth  = 64
	maxDigits = 400 // of a number, written without an exponent
)

// inspect returns how many JSON values a schema has, or what of it is not allowed.
func inspect(value any, depth int) (size int, err error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("must not be nested deeper than %d levels", maxDepth)
	}
	size = 1
	add := func(inner any) error {
		n, err := inspect(inner, depth+1)
		if size += n; err == nil && size > maxValues {
			err = fmt.Errorf("must have at most %d values", maxValues)
		}
		return err
	}
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			if err := add(item); err != nil {
				return 0, err
			}
		}
	case map[string]any:
		if named, given := v["$schema"].(string); given && strings.TrimSuffix(named, "#") != dialect {
			return 0, errors.New("must be of the dialect " + dialect)
		}
		for _, field := range v {
			if err := add(field); err != nil {
				return 0, err
			}
		}
	}
	return size, nil
}

// checkNumbers returns an error for a number that would take long to compute with: 1e999999999 is short to
// write, and has a billion digits.
func checkNumbers(value any) error {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			if err := checkNumbers(item); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, field := range v {
			if err := checkNumbers(field); err != nil {
				return err
			}
		}
	case json.Number:
		mantissa, power, _ := strings.Cut(strings.ToLower(v.String()), "e")
		exponent, err := 0, error(nil)
		if power != "" {
			exponent, err = strconv.Atoi(power) // too long a one is an error as well
		}
		if err != nil || len(mantissa)+max(exponent, -exponent) > maxDigits {
			return fmt.Errorf("must have no number of more than %d digits, for a type with a schema", maxDigits)
		}
	}
	return nil
}
