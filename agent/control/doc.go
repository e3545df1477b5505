// Package control is the agent's local socket: the messages, the server in the agent, and the client in the verbs.
//
// One request a connection, both sides JSON, the request at most 8 KiB. Whoever may open the socket (root, and the
// group haclient, by its mode) may read; only root may act, which the kernel says (SO_PEERCRED, unix(7)) and not the
// message. Both sides have deadlines, and readers cannot use up the connections that root needs.
//
// Within Schema 1 fields of Status are only added, never renamed or given another meaning. Durations are seconds,
// in fields that end in _s; what is not known is null or absent, never zero.
//
// What it does not do: it decides nothing and keeps nothing; a Handler does. It is not for other hosts.
package control
