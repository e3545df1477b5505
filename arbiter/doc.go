// Package arbiter serves leases over HTTP/1.1: one goroutine a cluster owns that cluster's lease.Grantor, and requests,
// write results and time reach it as events. An answer leaves only after what it says is on disk, which the Grantor
// decides; renewals are answered from memory and never wait for a disk.
//
// It decides nothing about leases. It keeps limits: who may speak, how large, how long, how many.
package arbiter
