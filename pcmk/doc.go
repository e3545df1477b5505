// Package pcmk is a typed wrapper over Pacemaker's command line tools and over what Pacemaker leaves in
// /proc. It asks and answers; it has no policy: what is safe, when to stop and when to give up is decided
// by its user.
//
// Rules that hold in the whole package:
//
//   - Missing data is Unknown (or an error), never a default. An attribute is Absent only if this node's
//     own state section was read and does not have it.
//   - Exit code 0 of a tool says that a request was accepted, not that it took effect: every write that
//     must hold is read back from the local copy of the CIB, by the caller (attributes) or by the function
//     (constraints, options).
//   - Every call needs a context with a deadline; several of Pacemaker's tools hang for ever when a daemon
//     is frozen.
//   - What differs between Pacemaker 2.0.5, 2.1 and 3.0 (Master and Promoted, orphaned and removed, texts
//     of crmadmin) is known here and nowhere else.
//
// What it does not do: it does not start or promote anything, ever. It does not handle units of class
// systemd (package systemd does, over D-Bus); a Plan gives their names. It does not cache and does not log.
// It never uses bans, target-role or any other permanent CIB data as a safety device: those are lost or win
// at random when a split cluster merges.
//
// A Cluster has no state after New and may be used by any number of goroutines. Two writes of one attribute
// at the same time arrive in an unknown order: the caller runs one at a time.
package pcmk
