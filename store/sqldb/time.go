package sqldb

import (
	"database/sql/driver"
	"fmt"
	"time"

	"postrider.dev/postrider"
)

// Time is a time in a column of either database. PostgreSQL answers in the session's
// zone. SQLite keeps text: its driver parses the text of a column, but not the text of an
// expression such as MIN(column).
type Time struct{ time.Time }

// sqliteTime is how SQLite's driver writes times with _time_format=sqlite.
const sqliteTime = "2006-01-02 15:04:05.999999999-07:00"

// Scan implements [database/sql.Scanner].
func (t *Time) Scan(source any) error {
	switch value := source.(type) {
	case time.Time:
		t.Time = postrider.Timestamp(value)
	case string:
		parsed, err := time.Parse(sqliteTime, value)
		if err != nil {
			return fmt.Errorf("not a stored time: %w", err)
		}
		t.Time = postrider.Timestamp(parsed)
	default:
		return fmt.Errorf("a %T is not a time", source)
	}
	return nil
}

// Value implements [driver.Valuer].
func (t Time) Value() (driver.Value, error) { return t.Time, nil }

// Pointer returns the time, nil for a column that was null.
func (t *Time) Pointer() *time.Time {
	if t == nil {
		return nil
	}
	return &t.Time
}

// TimeOf returns the time as databases store it: in UTC, with microseconds.
func TimeOf(t time.Time) Time { return Time{postrider.Timestamp(t)} }

// NullTime is TimeOf for a column that may be null, as it is for nil.
func NullTime(t *time.Time) *Time {
	if t == nil {
		return nil
	}
	stored := TimeOf(*t)
	return &stored
}
