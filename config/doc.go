// Package config reads the two configuration files: leasedog.toml (a node) and arbiter.toml (the arbiter).
//
// Both are strict TOML: an unknown key, a wrong type, a duration without a unit or a budget that violates the
// safety inequality is an error, never a warning, and nothing is moved to make it fit. Every problem of a file is
// reported at once, each with its place, the offending line and what to do (Error). The files reference.toml and
// arbiter.reference.toml document every key; a test loads them.
//
// An Agent comes only from LoadAgent or ParseAgent, so that one which exists has been checked. TOML writes it back
// in full, which is what the agent keeps in /run as its last good configuration.
//
// What it does not do: it does not ask Pacemaker (whether a resource exists is the agent's question), does not
// open a watchdog, does not resolve names, and knows no default that depends on the machine.
package config
