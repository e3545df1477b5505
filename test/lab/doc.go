// Package lab runs real two-node Pacemaker clusters on one machine and breaks them on purpose.
//
// A cluster is three systemd-nspawn containers with a real systemd as PID 1: node1 and node2 run Corosync and
// Pacemaker, arbiter is the third host. Everything in them is started by its unit, nothing by hand. A canary, a
// resource of the guarded group, writes CLOCK_MONOTONIC every 10 ms to a shared folder; all containers share the
// kernel's one clock, so the instants of two nodes compare exactly and "both ran" is measured, not guessed.
//
// What lives where, one subject a file:
//
//	cluster.go    a cluster's identity, folders and recorded state; up and down
//	rootfs.go     the cached Debian root file system and the tools that it takes
//	layer.go      what the lab puts on top of it for each host: configuration, units, agents
//	network.go    namespaces, bridges, cuts
//	node.go       one container: overlay, cgroup, boot, running a command in it
//	supervise.go  the process that boots a node again after a reset, as a machine would
//	process.go    finding and signalling a node's processes: freeze, thaw, crash
//	pacemaker.go  the cluster's resources, and reading its state
//	leasedog.go   everything that the lab knows of leasedog's files and command line
//	beats.go      writing and reading of heartbeats of the canary and the observer
//	analysis.go   PURE: alive intervals, overlap, gap, void
//	scenario.go   the table, and how one run is judged; plain.go, lease.go, faults.go: its rows
//	demo.go       the story that "make demo" tells
//
// What it does not do: it runs no virtual machine, so there is no kernel watchdog and no pause; it cannot step one
// node's clock; it makes no statement about another machine than the one it runs on. Production code never imports it.
// It needs root, and it keeps its traffic inside network namespaces that it made.
package lab
