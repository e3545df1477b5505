package arbiter

import (
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// Reasons of refusals beside those of package pki and the verdicts of the protocol.
const (
	reasonHandshake  = "handshake"      // TLS below 1.3, or no TLS that one can speak
	reasonPlainHTTP  = "plain-http"     // on the TLS port
	reasonTLSOnPlain = "tls-on-plain"   // the reverse
	reasonNetwork    = "network"        // not in allow_insecure_from
	reasonIdentity   = "other-identity" // another cluster's or node's
	reasonScope      = "not-configured" // a cluster, node or lease that the configuration does not list
	reasonRole       = "role"           // a reader that writes, an admin that holds
	reasonGrace      = "expired-no-new" // in the days after its end a certificate keeps, and gets nothing new
	reasonBadRequest = "bad-request"    // not understood, out of range, too large
	reasonNotFound   = "not-found"      // no such path, method or cluster
	reasonJoin       = "join"           // a wrong, used or outdated code
	reasonJoinRate   = "join-too-often" // too many tries
	reasonRate       = "too-often"      // more requests than anybody needs
	reasonCrowd      = "too-many-connections"
	reasonVerdict    = "verdict-"        // + what the Grantor said
	nobody           = "nobody"          // who has no identity
	unknownAddress   = "unknown address" // who has no connection
)

// refusals counts what was refused and writes it to the log: each kind of each peer's at most every logEvery, so that
// whoever is refused ten thousand times a second fills no disk.
type refusals struct {
	log *logrus.Logger

	mu     sync.Mutex
	counts map[string]uint64
	last   map[string]said
}

type said struct {
	at    lease.Instant
	since uint64 // refusals that were not written
}

const (
	logEvery = 10 * time.Second
	maxSaid  = 512 // peers and reasons that are told apart
	maxText  = 300 // bytes of a line: a path may have thousands
)

func newRefusals(log *logrus.Logger) *refusals {
	return &refusals{log: log, counts: map[string]uint64{}, last: map[string]said{}}
}

func (f *refusals) note(identity, address, reason, text string) {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	key := identity + " " + reason
	if reason == pki.ReasonOtherCA { // whoever it is has chosen that name, and may choose another one each time
		key = nobody + " " + reason
	}
	now := boottime.Now()
	f.mu.Lock()
	f.counts[reason]++
	s, known := f.last[key]
	quiet := known && now.Sub(s.at) < logEvery
	if quiet {
		s.since++
	} else {
		if len(f.last) >= maxSaid {
			clear(f.last)
		}
		known = known && s.since > 0
	}
	more := s.since
	if !quiet {
		s = said{at: now}
	}
	f.last[key] = s
	f.mu.Unlock()
	if quiet {
		return
	}
	e := f.log.WithFields(logrus.Fields{"identity": identity, "address": address, "reason": reason})
	if known {
		e = e.WithField("more", more)
	}
	e.Warn("refused: " + text)
}

func (f *refusals) snapshot() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}
