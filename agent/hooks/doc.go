// Package hooks runs the site's own programs: gates, which are asked before this node competes for a lease, and alerts,
// which are told what happened. They are executables in folders that nobody but root may change, run without a shell and
// with a deadline.
//
// It decides nothing: who asks the gates takes their no, and an alert's exit code is only logged. Nothing of a lease waits
// for an alert.
package hooks
