package sqldb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// sqliteError is shaped like the errors of SQLite's driver.
type sqliteError int

func (e sqliteError) Error() string { return fmt.Sprintf("SQL logic error (%d)", int(e)) }
func (e sqliteError) Code() int     { return int(e) }

func TestFailureCodes(t *testing.T) {
	t.Parallel()
	for code, causes := range map[postrider.Code][]error{
		postrider.CodeUnavailable: {
			driver.ErrBadConn, io.ErrUnexpectedEOF, &net.OpError{Op: "dial", Err: errors.New("refused")}, ErrClosed, ErrRaced,
			&pq.Error{Code: "08006"}, &pq.Error{Code: "57P01"}, &pq.Error{Code: "57014"}, &pq.Error{Code: "53300"},
			&pq.Error{Code: "25006"}, &pq.Error{Code: "40P01"}, &pq.Error{Code: "55P03"},
			sqliteError(sqliteBusy), sqliteError(sqliteBusy | 2<<8), sqliteError(sqliteFull),
		},
		postrider.CodeInvalid:  {&pq.Error{Code: "22021"}},
		postrider.CodeConflict: {&pq.Error{Code: "23505"}, sqliteError(sqliteConstraint | 8<<8)},
		postrider.CodeNotFound: {postrider.NotFound("webhook")},
		"": {
			errors.New("anything"), context.Canceled, context.DeadlineExceeded,
			&pq.Error{Code: "x"}, sqliteError(1),
		},
	} {
		for _, cause := range causes {
			err := Failure("test", fmt.Errorf("wrapped: %w", cause))
			require.Equal(t, code, postrider.CodeOf(err), "%v", cause)
			require.ErrorIs(t, err, cause)
			var domain *postrider.Error
			if errors.As(err, &domain) {
				require.NotContains(t, domain.Message, "SQL")
			}
		}
	}
	require.NoError(t, Failure("test", nil))
}

func TestTimesAreReadFromEitherDatabase(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 3, 14, 9, 26, 53, 123456000, time.UTC)
	for _, source := range []any{"2026-03-14 09:26:53.123456+00:00", want.In(time.FixedZone("", 3600)), want.Add(999)} {
		var m Time
		require.NoError(t, m.Scan(source))
		require.Equal(t, want, m.Time)
	}
	var m Time
	require.Error(t, m.Scan("yesterday"))
	require.Error(t, m.Scan(7))
}
