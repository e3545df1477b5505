//go:build lab_mutant_noguard

package main

import (
	"context"
	"time"

	"github.com/leasedog/leasedog/agent"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
)

// mutantMark must not be in any shipped binary.
const mutantMark = "leasedog lab mutant: no guard"

// theGuard is a MUTANT for the lab: it acknowledges everything and resets nothing.
func theGuard() agent.Guard { return noGuard{} }

type noGuard struct{}

func (noGuard) reply(until lease.Instant) (guardapi.Reply, error) {
	return guardapi.Reply{OK: true, Until: until, Message: mutantMark,
		Status: guardapi.Status{Watchdog: time.Second, Chances: 1, KillTimer: true}}, nil
}

func (m noGuard) Arm(_ context.Context, r guardapi.Request) (guardapi.Reply, error) {
	return m.reply(r.Until)
}

func (m noGuard) Shorten(_ context.Context, r guardapi.Request) (guardapi.Reply, error) {
	return m.reply(r.Until)
}

func (m noGuard) Disarm(context.Context, string, lease.Epoch, lease.Instance) (guardapi.Reply, error) {
	return m.reply(0)
}

func (m noGuard) Note(context.Context, string, lease.Epoch, lease.Instance, string, string) (guardapi.Reply, error) {
	return m.reply(0)
}

func (noGuard) Status(context.Context) (guardapi.Status, error) {
	return guardapi.Status{}, guardapi.ErrNoGuard
}
