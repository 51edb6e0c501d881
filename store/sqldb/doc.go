// Package sqldb is everything that package store needs of SQL databases in general. It
// knows the two databases, PostgreSQL and SQLite, and knows nothing of Postrider's tables.
//
//   - connect.go opens the pools; dialect.go says what the databases do not share;
//     transaction.go runs transactions, again where one lost against another.
//   - prepare.go prepares statements that come again, each once a connection.
//   - statement.go builds SQL from text and parameters.
//   - columns.go derives a table's columns from the db tags of a row type, and table.go
//     writes such rows; array.go encodes them as PostgreSQL's arrays.
//   - group.go lets concurrent calls share a transaction.
//   - time.go stores times; failure.go says what a database's errors mean.
//
// A type that a column is to have gets its encoding in codecOf (array.go). Anything that
// only one database can do gets a field in [Dialect], and the store asks for the field.
package sqldb
