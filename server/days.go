package server

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Days is a span of time that can be written in days, such as 30d.
type Days time.Duration

const oneDay = Days(24 * time.Hour)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Days) UnmarshalText(text []byte) error {
	if count, found := strings.CutSuffix(string(text), "d"); found {
		n, err := strconv.ParseUint(count, 10, 15)
		if err != nil {
			return errors.New("must be days such as 30d, or hours such as 720h")
		}
		*d = Days(n) * oneDay
		return nil
	}
	span, err := time.ParseDuration(string(text))
	if err != nil || span < 0 {
		return errors.New("must be days such as 30d, or hours such as 720h")
	}
	*d = Days(span)
	return nil
}
