// Package catalogue checks the data of events against the JSON Schemas (draft 2020-12) of their types.
//
// A schema is somebody else's program, so its size, what it may refer to and what checking may cost are
// bounded: a schema that refers to another document is refused, nothing is ever loaded, and a check that
// takes more steps than [maxSteps] ends. Numbers are compared as they are written, never as doubles.
//
// Messages name rules and places, and never a value: they go into answers, and data stays out of those.
package catalogue
