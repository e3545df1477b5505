// Package systemd is what leasedog asks of systemd: sd_notify, units and jobs over D-Bus with a deadline on every
// call, and the journal as a logrus hook. Interfaces: sd_notify(3), org.freedesktop.systemd1(5), sd_journal_print(3).
//
// It has no policy: it starts and stops what it is told to, and what cannot be read is an error, never a guess.
package systemd
