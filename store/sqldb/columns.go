package sqldb

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx/reflectx"
)

// column is one column of a row type.
type column struct {
	name  string
	field []int // where its field is in the row type
	codec
}

// Columns are the columns of a table or a query, in the order of a row type's fields. A field
// of the type itself hides a field of the same column in an embedded type.
type Columns[Row any] struct{ all []column }

var (
	fieldMapper  = reflectx.NewMapperFunc("db", strings.ToLower) //nolint:gochecknoglobals // a cache, reads db tags as sqlx does
	knownColumns sync.Map                                        //nolint:gochecknoglobals // a cache: []column by row type
)

// ColumnsOf returns the columns that the db tags of a row type name. It panics when a field
// has a type that no column can have, see codecOf. It looks at each type once.
func ColumnsOf[Row any]() Columns[Row] {
	row := reflect.TypeFor[Row]()
	if known, found := knownColumns.Load(row); found {
		return Columns[Row]{known.([]column)} //nolint:errcheck,forcetypeassert // nothing else is stored
	}
	var all []column
	fields := fieldMapper.TypeMap(row)
	for _, field := range fields.Index {
		if fields.Names[field.Path] != field {
			continue
		}
		values, found := codecOf(field.Field.Type)
		if !found {
			panic(fmt.Sprintf("sqldb: no column for %s.%s, a %s", row, field.Field.Name, field.Field.Type))
		}
		all = append(all, column{name: field.Name, field: field.Index, codec: values})
	}
	knownColumns.Store(row, all)
	return Columns[Row]{all}
}

// Except returns the columns without the ones named.
func (c Columns[Row]) Except(names ...string) Columns[Row] {
	return Columns[Row]{slices.DeleteFunc(slices.Clone(c.all), func(col column) bool { return slices.Contains(names, col.name) })}
}

// Names returns the columns' names.
func (c Columns[Row]) Names() []string { return names(c.all) }

func names(all []column) []string {
	list := make([]string, len(all))
	for i, col := range all {
		list[i] = col.name
	}
	return list
}

// List returns the columns as a query lists them: "id, url".
func (c Columns[Row]) List() string { return strings.Join(c.Names(), ", ") }

// Of returns the columns of a table that the query calls alias: "w.id, w.url".
func (c Columns[Row]) Of(alias string) string {
	return alias + "." + strings.Join(c.Names(), ", "+alias+".")
}

// Assignments returns the columns as UPDATE sets them to parameters: "url = ?, name = ?".
func (c Columns[Row]) Assignments() string { return strings.Join(c.Names(), " = ?, ") + " = ?" }

// AssignmentsFrom returns the columns as UPDATE sets them to the same columns of another
// table: "url = input.url, name = input.name".
func (c Columns[Row]) AssignmentsFrom(table string) string {
	assignments := c.Names()
	for i, name := range assignments {
		assignments[i] = name + " = " + table + "." + name
	}
	return strings.Join(assignments, ", ")
}

// Values returns the row's values, one for each column.
func (c Columns[Row]) Values(row *Row) []any { return valuesOf(c.all, reflect.ValueOf(row).Elem()) }

func valuesOf(all []column, row reflect.Value) []any {
	values := make([]any, len(all))
	for i, col := range all {
		values[i] = row.FieldByIndex(col.field).Interface()
	}
	return values
}
