package pcmk

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leasedog/leasedog/command"
)

// Action is what a resource agent may be asked to do from here. There is no start and no promote: only the
// cluster starts.
type Action string

const (
	Monitor Action = "monitor"
	Stop    Action = "stop"
	Demote  Action = "demote"
)

// Condition is what a monitor says of a primitive.
type Condition uint8

const (
	ConditionUnknown Condition = iota // any other exit code
	Stopped                           // 7 (lsb: 3)
	Running                           // 0; unpromoted where there are roles
	Promoted                          // 8
	PromotedFailed                    // 9
	Degraded                          // 190
	PromotedDegraded                  // 191
)

func (c Condition) String() string {
	names := []string{"unknown", "stopped", "running", "promoted", "promoted and failed", "degraded", "promoted and degraded"}
	if int(c) < len(names) {
		return names[c]
	}
	return names[0]
}

// Inactive reports whether c says that the guarded role does not run here: Stopped, or under a guarded
// Promoted role also Running (the instance goes on unpromoted, attack 16). Everything else, unknown
// included, is not inactive.
func (p Primitive) Inactive(c Condition) bool {
	return c == Stopped || p.Role == RolePromoted && c == Running
}

// Answer of a resource agent that ran to its end.
type Answer struct {
	Action    Action
	Code      int       // the agent's own exit code
	Condition Condition // of a Monitor; ConditionUnknown for other actions
	Message   string    // the last part of its stderr
}

// Done reports whether a stop or demote says that it succeeded. It proves nothing; a Monitor afterwards does.
func (a Answer) Done() bool { return a.Action != Monitor && a.Code == 0 }

// ErrNoDirectRun says that a primitive is not run here: class systemd goes over D-Bus.
var ErrNoDirectRun = errors.New("class systemd is not run through an agent")

// RunAgent runs the resource agent (or init script) itself, without any Pacemaker process, with the
// environment that Pacemaker gives it. An error means that there is no answer (not started, killed at the
// deadline, killed by a signal): unknown, and what it was asked to do may go on in processes that left its
// process group. Pacemaker may run the same agent at the same moment: nothing locks them against each
// other.
func (c *Cluster) RunAgent(ctx context.Context, plan Plan, p Primitive, action Action) (Answer, error) {
	fail := func(err error) (Answer, error) {
		return Answer{Action: action}, fmt.Errorf("run %s %s of %s: %w", p.Agent, action, p.ID, err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return fail(command.ErrNoDeadline)
	}
	if !slices.Contains([]Action{Monitor, Stop, Demote}, action) {
		return fail(fmt.Errorf("action %q is not allowed from here", action))
	}
	cmd := command.Cmd{Path: p.Agent, Args: []string{string(action)}}
	switch p.Class {
	case "ocf":
		cmd.Env = c.agentEnv(plan, p, action, min(time.Until(deadline), p.Timeout(string(action))))
	case "lsb":
		if action == Demote {
			return fail(errors.New("an init script has no such action"))
		}
		if action == Monitor {
			cmd.Args = []string{"status"}
		}
	default:
		return fail(ErrNoDirectRun)
	}
	res, err := c.run.Run(ctx, cmd)
	code := 0
	if err != nil {
		var e *command.Error
		if !errors.As(err, &e) || !e.Exited() {
			return fail(err)
		}
		code = e.ExitCode
	}
	a := Answer{Action: action, Code: code, Message: res.Stderr}
	if action == Monitor {
		a.Condition = condition(p.Class, code)
	}
	return a, nil
}

func condition(class string, code int) Condition {
	if class == "lsb" {
		switch code {
		case 0:
			return Running
		case 3:
			return Stopped
		}
		return ConditionUnknown // 1 and 2: dead, but a pid or lock file is there
	}
	switch code {
	case 0:
		return Running
	case 7:
		return Stopped
	case 8:
		return Promoted
	case 9:
		return PromotedFailed
	case 190:
		return Degraded
	case 191:
		return PromotedDegraded
	}
	return ConditionUnknown
}

func (c *Cluster) agentEnv(plan Plan, p Primitive, action Action, timeout time.Duration) []string {
	env := []string{
		"OCF_ROOT=" + c.ocfRoot, "OCF_RA_VERSION_MAJOR=1", "OCF_RA_VERSION_MINOR=1",
		"OCF_RESOURCE_INSTANCE=" + p.ID, "OCF_RESOURCE_TYPE=" + p.Type, "OCF_RESOURCE_PROVIDER=" + p.Provider,
		"OCF_OUTPUT_FORMAT=text",
	}
	for _, k := range sortedKeys(p.Params) {
		env = append(env, "OCF_RESKEY_"+k+"="+p.Params[k])
	}
	for _, k := range sortedKeys(p.Meta) {
		env = append(env, "OCF_RESKEY_CRM_meta_"+strings.ReplaceAll(k, "-", "_")+"="+p.Meta[k])
	}
	return append(env,
		"OCF_RESKEY_crm_feature_set="+plan.FeatureSet,
		"OCF_RESKEY_CRM_meta_name="+string(action),
		"OCF_RESKEY_CRM_meta_on_node="+plan.Node,
		// The agent plans its own escalation by this: it is the time that is left, not what is configured.
		"OCF_RESKEY_CRM_meta_timeout="+strconv.FormatInt(max(timeout.Milliseconds(), 1), 10))
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Force runs the agent through `crm_resource --force-stop`, `--force-demote` or `--force-check`: parameters
// come from the live configuration, so that it follows a change made since the Plan, but it hangs with
// pacemaker-based, and with class systemd works before 2.1 only. The id is always the primitive's: with a
// clone's id the check runs the agent under a wrong instance name and says "not running" of a promoted
// resource (seen on 2.1.5). The answer counts only if the tool prints the same code that it exits with: its
// own exit codes overlap with the agent's.
func (c *Cluster) Force(ctx context.Context, p Primitive, action Action) (Answer, error) {
	fail := func(err error) (Answer, error) {
		return Answer{Action: action}, fmt.Errorf("force %s of %s: %w", action, p.ID, err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return fail(command.ErrNoDeadline)
	}
	if p.Class == "lsb" && action == Monitor {
		// 2.0.5 prints the script's own code (3), 2.1 and 3.0 its translation (7): seen.
		return fail(errors.New("the code of an init script is not the same on all versions: run it directly"))
	}
	args := []string{"--resource", p.ID}
	switch action {
	case Monitor:
		args = append(args, "--force-check")
	case Stop:
		args = append(args, "--force-stop")
	case Demote:
		args = append(args, "--force-demote", "--force")
	default:
		return fail(fmt.Errorf("action %q is not allowed from here", action))
	}
	seconds := max(int64(time.Until(deadline)/time.Second), 1)
	args = append(args, "--timeout", strconv.FormatInt(seconds, 10)+"s")
	res, err := c.run.Run(ctx, command.Cmd{Path: c.tools.CrmResource, Args: args})
	code := 0
	if err != nil {
		if code = exitCode(err); code < 0 {
			return fail(err)
		}
	}
	said, ok := forcedCode(string(res.Stdout), p.ID)
	if !ok || said != code {
		if err == nil {
			err = fmt.Errorf("unexpected answer %.200q", res.Stdout)
		}
		return fail(err)
	}
	a := Answer{Action: action, Code: code, Message: res.Stderr}
	if action == Monitor {
		a.Condition = condition(p.Class, code)
	}
	return a, nil
}

// 2.0: "Operation monitor for p (ocf:…) returned: 'ok' (0)"; since 2.1: "Operation force-check for p
// (ocf:…) returned 0 (ok)".
var forcedLine = regexp.MustCompile(`(?m)^Operation \S+ for (\S+) \(.*\) returned(?:: '.*' \((\d+)\)| (\d+) \(.*\))`)

func forcedCode(out, id string) (int, bool) {
	all := forcedLine.FindAllStringSubmatch(out, -1)
	if len(all) != 1 || BaseID(all[0][1]) != id {
		return 0, false
	}
	n, err := strconv.Atoi(all[0][2] + all[0][3])
	return n, err == nil
}
