package lease

import "time"

// Observer is the rule by which one of several arbiters on a shared store may take a lease away: only after it has
// itself seen the very same revision unchanged for the whole hold, on its own clock. It trusts nobody else's clock
// and no time in the store. A renewal by any arbiter is a new revision.
//
// One goroutine owns it.
type Observer struct {
	revision int64
	hold     time.Duration
	since    Instant
}

// Observe says that a read answered at received returned revision, whose record has this hold. A lower revision
// than one already seen comes from a replica that lags, and is no observation.
func (o *Observer) Observe(received Instant, revision int64, hold time.Duration) {
	switch {
	case revision < o.revision:
	case revision > o.revision || o.since == 0:
		// The change may have come at any time up to the answer: the hold counts from there.
		o.revision, o.hold, o.since = revision, hold, received
	default:
		o.hold = max(o.hold, hold)
	}
}

// MayTake reports whether the lease may be taken by a compare-and-swap on the returned revision: a read that left
// at sent, after the whole hold, still returned the revision first seen more than a hold ago.
func (o *Observer) MayTake(sent Instant, revision int64) bool {
	return o.since != 0 && revision == o.revision && sent != Never && sent.Sub(o.since) > o.hold
}
