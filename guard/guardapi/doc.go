// Package guardapi is how an agent speaks to the guard: messages, the client, and the set-up file that the agent
// writes before it starts the guard's unit.
//
// The socket is /run/leasedog/guard.sock, SOCK_SEQPACKET, root only (the guard checks SO_PEERCRED). One packet is
// one JSON document; every request has one reply. Requests are idempotent, so a client that missed a reply asks
// again. A new agent works with an old armed guard: fields are only ever added, unknown ones are ignored.
//
// It decides nothing: lease.Deadman says what is accepted.
package guardapi
