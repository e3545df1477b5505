// Package recorded holds what each release said on the wire and left in the arbiter's store, and plays it to the programs of
// today: an older agent with this arbiter, this agent with an older arbiter, this arbiter on an older store. The recordings
// are in testdata, one folder a release, and one of a release that is out never changes again:
//
//	go test ./test/recorded -record 0.2     # a new one
//	go test ./test/recorded -record 0.1 -again
//
// It is no proof for what a release says in situations that its story has not.
package recorded
