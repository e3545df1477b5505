// Package sim is a deterministic world around the protocol of package lease: machines with clocks of their own, agents,
// guards and watchdogs, Pacemaker, a network, an arbiter with a disk or several arbiters over one store, administrators,
// and faults in all of them. It drives the production Holder, Grantor, Deadman and Observer and has no rule of its own:
// everything that the drivers of agent, guard and arbiter do asynchronously is an event here, so that it can be late,
// lost, or cut in the middle.
//
// Run plays one seed: the same seed and Config give the same world, event by event. The invariants of check.go are judged
// in real time, which nobody in the world can read. Shrink looks for the fewest faults that still break one.
//
// It does no I/O, starts no goroutine and reads no clock: whoever wants many seeds runs many worlds.
package sim
