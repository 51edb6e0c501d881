// Package shaping is what a webhook's settings make of an event: whether the webhook gets it
// (filter), and which bytes its receiver gets (format and transform). It does no I/O.
//
// Filters and transforms are expressions in the Common Expression Language (CEL,
// https://cel.dev) over the variable event, which has the fields id, type, persona_id,
// timestamp and data. What one evaluation may cost is bounded, see [MaxCost] and [MaxMemory]:
// an expression that needs more fails on that event, and holds up nobody.
//
//   - shaper.go compiles expressions, once each, and evaluates them.
//   - event.go makes a CEL value of an event. Its numbers stay exact.
//   - render.go makes JSON of a CEL value.
//   - format.go has the formats of a body.
package shaping
