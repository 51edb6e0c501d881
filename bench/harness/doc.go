// Package harness makes the benchmark's own programs, naive and floor, look like
// postrider-standalone to the process that starts them: they have the same flags and write the
// same files into the data directory.
//
// [Settings] are the flags, and [Serve] runs the API and writes api-key and endpoints.json.
// A flag that package instance gives to postrider-standalone must be here too.
//
// The package must not hold anything that delivers.
package harness
