package hooks

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// GateTime is how long a gate may take: its node's look at the cluster waits for it.
const GateTime = 3 * time.Second

// Question is what a gate is asked about.
type Question struct {
	Cluster   string
	Node      string
	Lease     string
	Resources []string
}

func (q Question) env() []string {
	return []string{"LEASEDOG_CLUSTER=" + q.Cluster, "LEASEDOG_NODE=" + q.Node, "LEASEDOG_LEASE=" + q.Lease,
		"LEASEDOG_RESOURCES=" + strings.Join(q.Resources, " ")}
}

// Ask runs every gate side by side and returns why this node may not compete, in the order of their names; nothing if all
// say yes. What cannot be run, or does not end in time, says no.
func (f Folder) Ask(ctx context.Context, q Question) []string {
	programs, err := f.Programs()
	if err != nil {
		return []string{err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, GateTime)
	defer cancel()
	answers := make([]string, len(programs))
	var all sync.WaitGroup
	for i, p := range programs {
		if p.Problem != "" {
			answers[i] = "gate " + p.Name + " is not run: " + p.Problem
			continue
		}
		all.Go(func() {
			words, err := run(ctx, p, q.env())
			switch {
			case err == nil:
			case ctx.Err() != nil:
				answers[i] = fmt.Sprintf("gate %s did not answer within %v", p.Name, GateTime)
			case words != "":
				answers[i] = fmt.Sprintf("gate %s says no: %s", p.Name, words)
			default:
				answers[i] = fmt.Sprintf("gate %s says no: %v", p.Name, err)
			}
		})
	}
	all.Wait()
	var why []string
	for _, a := range answers {
		if a != "" {
			why = append(why, a)
		}
	}
	return why
}
