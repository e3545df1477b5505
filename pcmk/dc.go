package pcmk

import (
	"context"
	"fmt"
	"regexp"
)

// Activity is what a controller does.
type Activity uint8

const (
	ActivityUnknown Activity = iota
	Idle                     // S_IDLE: it has nothing to do and nothing of its own is in flight
	Transition               // it computes or carries out a transition
	Electing                 // election, join, starting, stopping
	NotDC                    // it answers, but is not the DC
)

func (a Activity) String() string {
	switch a {
	case Idle:
		return "idle"
	case Transition:
		return "transition"
	case Electing:
		return "electing"
	case NotDC:
		return "not DC"
	}
	return "unknown"
}

// DC is the designated controller and what it does.
type DC struct {
	Node     string // "" if there is none
	Activity Activity
	State    string // as the controller names it, such as S_IDLE
}

// DCState asks the local controller who the DC is, and that one what it does. An answer takes as long as
// the DC's controller needs: with a hung one it ends at the deadline. An error is unknown; a nil error with
// Node "" says that this node knows of no DC. Idle holds for the moment of the answer only.
func (c *Cluster) DCState(ctx context.Context) (DC, error) {
	out, err := c.tool(ctx, c.tools.Crmadmin, "-D")
	if exitCode(err) == exitNoDC {
		return DC{Activity: Electing}, nil
	}
	if err != nil {
		return DC{}, fmt.Errorf("ask for the DC: %w", err)
	}
	name, known := parseDC(out)
	if !known {
		return DC{}, fmt.Errorf("ask for the DC: unexpected answer %.100q", out)
	}
	if name == "" {
		return DC{Activity: Electing}, nil
	}
	if err := checkNode(name); err != nil {
		return DC{}, fmt.Errorf("ask for the DC: %w", err)
	}
	if out, err = c.tool(ctx, c.tools.Crmadmin, "-S", name); err != nil {
		return DC{Node: name}, fmt.Errorf("ask the DC %s what it does: %w", name, err)
	}
	state, err := parseControllerState(out, name)
	if err != nil {
		return DC{Node: name}, fmt.Errorf("ask the DC %s what it does: %w", name, err)
	}
	return DC{Node: name, State: state, Activity: activity(state)}, nil
}

var (
	dcLine = regexp.MustCompile(`(?m)^Designated Controller is: (\S+)`)
	// "Designated Controller is: not yet elected" in 3.0.0; 2.0 and 2.1 say nothing, and wait for a DC.
	noDC = regexp.MustCompile(`(?mi)(DC|controller) (is:? )?not (yet )?elected`)
	// "Status of crmd@n: S_IDLE (ok)" in 2.0, "Controller on n in state S_IDLE: ok" since 2.1.
	stateLine = regexp.MustCompile(`(?m)^(?:Status of crmd@(\S+): (S_[A-Z_]+) \((\S+)\)|Controller on (\S+) in state (S_[A-Z_]+): (\S+))\s*$`)
)

func parseDC(out string) (name string, known bool) {
	if noDC.MatchString(out) {
		return "", true
	}
	if m := dcLine.FindStringSubmatch(out); m != nil {
		return m[1], true
	}
	return "", false
}

func parseControllerState(out, name string) (string, error) {
	m := stateLine.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("unexpected answer %.100q", out)
	}
	node, state, health := m[1]+m[4], m[2]+m[5], m[3]+m[6]
	if node != name || health != "ok" {
		return "", fmt.Errorf("unexpected answer %.100q", out)
	}
	return state, nil
}

func activity(state string) Activity {
	switch state {
	case "S_IDLE":
		return Idle
	case "S_POLICY_ENGINE", "S_TRANSITION_ENGINE":
		return Transition
	case "S_NOT_DC":
		return NotDC
	case "S_ELECTION", "S_INTEGRATION", "S_FINALIZE_JOIN", "S_RELEASE_DC", "S_PENDING", "S_STARTING", "S_STOPPING",
		"S_TERMINATE", "S_RECOVERY", "S_HALT", "S_ILLEGAL":
		return Electing
	}
	return ActivityUnknown
}
