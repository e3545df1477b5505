// Package vm shows that the guard and a real kernel watchdog reset a real kernel within the budget.
//
// One machine is emulated in software (QEMU, TCG, one processor): Debian's ordinary kernel, systemd, the installed
// leasedog, Corosync and Pacemaker. The arbiter is the installed program on the host, so it outlives every reset. The
// other node is the production client on the host: it asks for the lease while a row plays, and the instant at which it is
// granted is when the machine must be silent. Nothing that is judged is read from inside of the machine: events and
// instants come from the emulator, which stands still at a reset, and the layer from its WATCHDOG event and the serial line.
//
// What lives where, one subject a file:
//
//	rows.go     the table: faults and bounds
//	play.go     one row from a fresh boot to the next; the judgement
//	table.go    how an outcome is printed
//	bench.go    machine, arbiter and peer together; what the rows ask of the machine
//	machine.go  the emulator's process, its serial line, and the programs that are run in the machine
//	qmp.go      the emulator's own protocol
//	arbiter.go  the arbiter's process, and the peer
//	stall.go    was the host itself too slow? Then a failed row proves nothing and is played again
//	image.go    kernel, disk and RAM disk; layer.go what is put on the disk; initrd.go the RAM disk
//	guest.go    INSIDE: first program of the RAM disk, service for commands
//	holder.go   INSIDE: a small holder in place of the agent
//
// In most rows that small holder holds the lease, with the agent's own clients of arbiter and guard: Pacemaker takes most
// of a minute to start in emulation. The row "vm-no-device" has the real agent and a real Pacemaker.
//
// What it does not do: there is no second node and no canary, so it says nothing of overlap but what follows from the
// peer's grant; the devices are QEMU's i6300esb and the kernel's softdog, and no other. It needs root, and no hardware
// virtualization. The kernel comes from the machine's own apt configuration.
package vm
