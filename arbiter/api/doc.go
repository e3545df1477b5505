// Package api is the wire between nodes and the arbiter: paths, request and response structs, error codes. Nothing
// else: it imports nothing of ours, and decides nothing.
//
// JSON over HTTP/1.1. Within /v1 fields are only ever added: both sides ignore unknown fields, and are strict about
// types, ranges, duplicate fields and size. Durations are nanoseconds in fields that end in _ns. Every request carries
// Proto.
package api
