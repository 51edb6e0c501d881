package sqldb

// The names of the databases, as the migrations' library has them.
const (
	Postgres = "postgres"
	SQLite   = "sqlite3"
)

// Dialect says what the two databases do not have in common.
type Dialect struct {
	Name       string // [Postgres] or [SQLite]
	Locks      bool   // rows can be locked by SELECT … FOR
	Arrays     bool   // a parameter may be an array
	Partitions bool   // tables can be partitioned
	Shared     bool   // several processes may use the database at the same time
}

// Lock returns a locking clause ("FOR UPDATE") where there are row locks. A transaction
// of SQLite locks the whole database instead.
func (d Dialect) Lock(clause string) string {
	if d.Locks {
		return " " + clause
	}
	return ""
}
