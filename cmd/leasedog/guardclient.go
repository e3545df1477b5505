//go:build !lab_mutant_noguard && !lab_mutant_blindguard

package main

import (
	"github.com/leasedog/leasedog/agent"
	"github.com/leasedog/leasedog/guard/guardapi"
)

// theGuard is the dead man's switch. The lab's mutants, which must be caught, are built with another one.
func theGuard() agent.Guard { return guardapi.NewClient(guardapi.SocketPath) }
