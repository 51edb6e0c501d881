// Package remote holds the commands that call the API of a running Postrider: `postrider webhook create`,
// `postrider delivery list` and so on, one for each route that answers JSON.
//
// Nobody writes them one by one. tools/apigen makes a table of them from the API's OpenAPI document
// (commands_gen.go), and the rest of this package works on that table:
//
//   - grammar.go makes kong's commands of it, with a flag for each parameter and each field of a body.
//   - request.go makes a request of what was typed; package client sends it.
//   - run.go sends, asks before it destroys, reads page after page, and watches.
//   - table.go prints any answer, as a table or as JSON. It knows no resource: an answer that gains a
//     field shows it.
//
// Rules of values are the API's alone: a flag says them in its help, and what breaks one is the API's
// 422, printed with the flag's name. Before a request only that is refused of which no request could be
// made: exit code 2 and not 1.
package remote
