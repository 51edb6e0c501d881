package store

import (
	"fmt"
	"time"

	"postrider.dev/postrider"
)

// moment reads a time from either database. PostgreSQL answers in the session's
// zone; SQLite keeps text, which its driver parses for a column, but not for an
// expression such as MIN(column).
type moment struct{ time.Time }

// sqliteTime is how SQLite's driver writes times with _time_format=sqlite.
const sqliteTime = "2006-01-02 15:04:05.999999999-07:00"

// Scan implements [database/sql.Scanner].
func (m *moment) Scan(source any) error {
	switch value := source.(type) {
	case time.Time:
		m.Time = postrider.Timestamp(value)
	case string:
		parsed, err := time.Parse(sqliteTime, value)
		if err != nil {
			return fmt.Errorf("not a stored time: %w", err)
		}
		m.Time = postrider.Timestamp(parsed)
	default:
		return fmt.Errorf("a %T is not a time", source)
	}
	return nil
}

// timeOf returns the time, nil for a column that was null.
func timeOf(m *moment) *time.Time {
	if m == nil {
		return nil
	}
	return &m.Time
}

// stampOf returns the time as it is stored, nil for nil.
func stampOf(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	stamp := postrider.Timestamp(*t)
	return &stamp
}
