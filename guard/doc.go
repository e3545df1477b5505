// Package guard is the dead man's switch: a small process that lives from grant to disarm and resets the node when
// a lease runs out and the agent has not said that its resources are proven stopped. The decisions are
// lease.Deadman's; here they are carried out.
//
// What resets, first to last: the guard itself (sysrq or reboot(2)); the kill timer, which ends a frozen guard, so
// that systemd's FailureAction= fires; the kernel's watchdog device, fed by nobody else; systemd's WatchdogSec=.
//
// The feeding goroutine holds its own thread. On it nothing touches a disk, waits for a lock, or allocates on an
// ordinary tick. Cause records are written by another goroutine, which may hang with its disk for ever.
//
// It does not know what a lease guards, never speaks to Pacemaker or to the arbiter (but for one last datagram), runs
// no child process, and reads no configuration of the administrator's: all it must know comes in guardapi.Setup and
// in the arms.
package guard
