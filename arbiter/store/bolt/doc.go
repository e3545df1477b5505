// Package bolt keeps the arbiter's records in one bbolt file. Changes of all clusters that wait at the same time share
// one transaction and one fsync (group commit); a change is answered only when it is synced.
//
// It decides nothing about leases. What it cannot vouch for it says: a cluster that was last written on another machine
// is marked as suspect, and a file that cannot be read is moved aside, so that every cluster of it is unknown and goes
// through recovery. It never repairs.
package bolt
