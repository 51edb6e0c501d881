package postrider

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a retry schedule.
const (
	MaxScheduledRetries = 20
	MinScheduledWaitMS  = 100
	MaxScheduledWaitMS  = 24 * 3600 * 1000
)

// RetrySchedule is a list of waits in milliseconds, one before each retry; "" is none. It is a text, as the
// database has it ("1000,60000"), so that policies can be compared; in JSON it is an array.
type RetrySchedule string

// RetryScheduleOf returns the schedule of the waits in milliseconds.
func RetryScheduleOf(waits ...int) RetrySchedule {
	texts := make([]string, len(waits))
	for i, wait := range waits {
		texts[i] = strconv.Itoa(wait)
	}
	return RetrySchedule(strings.Join(texts, ","))
}

// waits returns the waits in milliseconds.
func (s RetrySchedule) waits() []int {
	if s == "" {
		return nil
	}
	texts := strings.Split(string(s), ",")
	waits := make([]int, len(texts))
	for i, text := range texts {
		waits[i], _ = strconv.Atoi(text) // a text that was not made here is a wait of 0, which no rule allows
	}
	return waits
}

// wait returns the wait after attempt number (from 1): that of the last retry also after it, where somebody has
// allowed a delivery more of them.
func (s RetrySchedule) wait(number int) time.Duration {
	waits := s.waits()
	return time.Duration(waits[min(number, len(waits))-1]) * time.Millisecond
}

// MarshalJSON returns an array, null for no schedule.
func (s RetrySchedule) MarshalJSON() ([]byte, error) { return json.Marshal(s.waits()) }

// UnmarshalJSON reads an array, or null.
func (s *RetrySchedule) UnmarshalJSON(text []byte) error {
	var waits []int
	err := json.Unmarshal(text, &waits)
	*s = RetryScheduleOf(waits...)
	return err
}

// Value implements driver.Valuer: no schedule is null.
//
//nolint:nilnil // as it says
func (s RetrySchedule) Value() (driver.Value, error) {
	if s == "" {
		return nil, nil
	}
	return string(s), nil
}

// Scan implements sql.Scanner.
func (s *RetrySchedule) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*s = ""
	case string:
		*s = RetrySchedule(v)
	case []byte:
		*s = RetrySchedule(v)
	default:
		return fmt.Errorf("a retry schedule is a text, not %T", value)
	}
	return nil
}

// check returns the rules that the schedule breaks.
func (s RetrySchedule) check() []FieldError {
	waits := s.waits()
	if len(waits) > MaxScheduledRetries {
		return []FieldError{{
			Field: "retry_schedule_ms", Message: fmt.Sprintf("must have 1 to %d entries", MaxScheduledRetries), Value: len(waits),
		}}
	}
	if i := slices.IndexFunc(waits, func(ms int) bool { return ms < MinScheduledWaitMS || ms > MaxScheduledWaitMS }); i >= 0 {
		return []FieldError{{
			Field:   fmt.Sprintf("retry_schedule_ms[%d]", i),
			Message: fmt.Sprintf("must be from %d to %d", MinScheduledWaitMS, MaxScheduledWaitMS), Value: waits[i],
		}}
	}
	return nil
}
