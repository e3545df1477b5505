//go:build lab_mutant_blindguard

package main

import (
	"context"
	"time"

	"github.com/leasedog/leasedog/agent"
	"github.com/leasedog/leasedog/guard/guardapi"
)

// mutantMark must not be in any shipped binary.
const mutantMark = "leasedog lab mutant: blind guard"

// theGuard is a MUTANT for the lab: the guard's deadline is extended whether or not the lease was renewed.
func theGuard() agent.Guard { return blindGuard{guardapi.NewClient(guardapi.SocketPath)} }

type blindGuard struct{ *guardapi.Client }

func (m blindGuard) Arm(ctx context.Context, r guardapi.Request) (guardapi.Reply, error) {
	asked := r.Until
	r.Until, r.DyingText = r.Until.Add(time.Hour), mutantMark
	reply, err := m.Client.Arm(ctx, r)
	reply.Until = asked
	return reply, err
}
