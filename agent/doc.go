// Package agent is the node daemon: one loop that steps a lease.Holder for each lease, and drivers that carry its
// actions out. Whatever may block runs in a driver of its own and comes back as an event; the loop never waits.
//
// Where what happens:
//
//	agent.go     start, loop, end
//	keeper.go    one lease: its Holder, and who carries out which action
//	identity.go  node, boot and instance
//	files.go     /run (for a successor) and /var/lib (for another boot)
//	guard.go     starting, arming and disarming the guard
//	gate.go      the node attribute: one tool at a time, asserted and read back
//	proof.go     is it proven that the resources are stopped here?
//	ladder.go    the stop ladder
//	survey.go    what the cluster and this node look like; why this node may not compete
//	rules.go     whether the rules keep the resources from nodes without the lease
//	herald.go    what systemd is told
//	status.go    the control socket's answers
//
// It decides nothing about a lease: package lease does. It starts and promotes nothing: Pacemaker does, through the
// attribute that its rules depend on.
package agent
