package main

import (
	"testing"

	"github.com/leasedog/leasedog/agent/control"
)

// A pair in peace is no warning on either node: the standby of such a pair is acquiring.
func TestCheckLease(t *testing.T) {
	for _, c := range []struct {
		name  string
		lease control.Lease
		want  int
	}{
		{"holder", control.Lease{State: control.StateHeld}, exitOK},
		{"holder in standby, without a peer", control.Lease{State: control.StateHeld, WhyNot: []string{"this node is in standby"}}, exitFailure},
		{"ready standby", control.Lease{State: control.StateAcquiring, HolderKnown: true, Holder: "node2"}, exitOK},
		{"about to win", control.Lease{State: control.StateAcquiring}, exitFailure},
		{"waits, and nobody is known to hold", control.Lease{State: control.StateAcquiring, HolderKnown: true}, exitFailure},
		{"standby that does not compete", control.Lease{State: control.StateStandby, HolderKnown: true, Holder: "node2"}, exitOK},
		{"standby, nobody holds", control.Lease{State: control.StateStandby, HolderKnown: true}, exitCritical},
		{"standby, arbiter silent", control.Lease{State: control.StateStandby}, exitUnknown},
		{"leaving", control.Lease{State: control.StateLeaving}, exitFailure},
		{"losing", control.Lease{State: control.StateLosing}, exitCritical},
		{"paused", control.Lease{State: control.StatePaused}, exitFailure},
		{"refused", control.Lease{State: control.StateRefused}, exitFailure},
	} {
		if got := checkLease(c.lease); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
