// Package pki says who speaks: identities in certificates, the authority that signs them, what each side presents and
// accepts in TLS 1.3, and how all of it is replaced while connections go on.
//
// An identity is the URI in a certificate, never an address: leasedog://CLUSTER/NODE is a node; leasedog:arbiter,
// leasedog:reader and leasedog:admin are roles. What an identity may do is decided by the arbiter, not here.
//
// Whatever cannot be read, parsed or matched is refused, with an *Error that names the file and what to do. Credentials
// that were good and are replaced by broken ones stay in use, and the error is told. The wall clock decides about nothing
// but certificates, and by the rules of Clock and Standing.
package pki
