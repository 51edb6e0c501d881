package client

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// set puts a parameter into a query, unless it has the zero value.
func set[T string | int | bool](q url.Values, name string, value T) {
	var none T
	if value != none {
		q.Set(name, fmt.Sprint(value))
	}
}

func setTexts(q url.Values, name string, values []string) { set(q, name, strings.Join(values, ",")) }

func setTime(q url.Values, name string, value time.Time) {
	if !value.IsZero() {
		q.Set(name, value.Format(time.RFC3339Nano))
	}
}
