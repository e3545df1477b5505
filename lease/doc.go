// Package lease is the protocol of leasedog, both halves side by side: Holder (a node's side of one lease), Grantor
// (the arbiter's side of one cluster), Deadman (what the guard decides) and Budget (every duration).
//
// It is pure: no I/O, no goroutine, no log, no clock, no randomness. Step(now, event) returns actions, which are
// values that a driver carries out in their order and answers with events; Next tells by when Step must be called
// again at the latest. The same code runs in production, in the simulator and under model tests. No type of this
// package may be used by two goroutines at once.
//
// # The promise
//
// While clocks run within the drift bound and the machine is not paused invisibly from outside, no two nodes run a
// guarded resource at the same time. Three things make it true:
//
//   - a lease counts from the instant at which its renewal was sent, never from the answer;
//   - a node that cannot prove by F = L + S after that instant that its resources are stopped is reset by its guard,
//     and its watchdog's last legal feed is at F;
//   - the arbiter counts from the receipt, and refuses everybody else for H, which is longer than all of that
//     (Budget has the inequality).
//
// What a lease alone never gives is protection from a machine that is paused from outside and wakes up late.
//
// # Words
//
// Arbiter, lease, holder, epoch, acquire, renew, release, expire, grant, deny, hold, quarantine, guard, arm, disarm,
// feed, reset, guarded resource, switchover, pause, bar. They mean the same in code, logs, commands and documents.
package lease
