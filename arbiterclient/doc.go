// Package arbiterclient asks the arbiter: one call, one answer or an error, one deadline over everything. Several
// addresses are asked side by side with the same sequence number; the first usable answer counts.
//
// It decides nothing about a lease and never moves Sent: the Holder takes that before the first copy leaves. An error
// says that nothing is known, never that something was refused.
package arbiterclient
