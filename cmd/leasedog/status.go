package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/pki"
)

func newStatusCommand(o *options) *cobra.Command {
	check := false
	cmd := &cobra.Command{
		Use: "status", Args: noArgs,
		Short: "show leases, guard, arbiter and what happens next",
		Long: "Shows what this node's agent knows. With --check one line and an exit code for a monitoring system: " +
			"0 every lease is held and nothing is wrong, 1 a warning, 2 critical, 3 unknown.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := control.NewClient(o.socketPath).Status(cmd.Context())
			switch {
			case check:
				return printCheck(cmd.OutOrStdout(), st, err)
			case errors.Is(err, control.ErrNotRunning):
				return withoutAgent(cmd, err)
			case err != nil:
				return err
			case o.output == outputJSON:
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(st)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), statusText(st))
			return err
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "one line and an exit code for a monitoring system")
	return cmd
}

// withoutAgent says what is known when no agent answers: above all whether a guard is going to reset this node.
func withoutAgent(cmd *cobra.Command, notRunning error) error {
	w := cmd.ErrOrStderr()
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	guard := guardapi.NewClient(guardapi.SocketPath)
	st, err := guard.Status(ctx)
	_ = guard.Close() // nothing was written to it
	switch {
	case err != nil:
		fmt.Fprintln(w, "leasedog: no guard answers: nothing is armed here, or the guard is frozen")
	case len(st.Armed) == 0:
		fmt.Fprintln(w, "leasedog: the guard runs and nothing is armed")
	}
	for _, a := range st.Armed {
		fmt.Fprintf(w, "leasedog: the guard is armed for lease %s epoch %d: it resets this node in %s unless an agent takes over\n",
			a.Lease, a.Epoch, seconds(a.Until.Sub(boottime.Now()).Seconds()))
	}
	if boot, err := os.ReadFile(bootIDPath); err == nil {
		records, _ := cause.Read(stateDir) // "leasedog why" reports damage
		if text, ok := cause.Why(records, strings.TrimSpace(string(boot))); ok {
			fmt.Fprintln(w, "leasedog: "+text)
		}
	}
	return notRunning
}

func statusText(st control.Status) string {
	var b strings.Builder
	for _, a := range st.Alarms {
		row(&b, "ALARM", a.Text)
		if a.Hint != "" {
			row(&b, "", "hint: "+a.Hint)
		}
	}
	row(&b, "Cluster", fmt.Sprintf("%s, this is %s (leasedog %s, agent up %s)", st.Cluster, st.Node, st.Version, seconds(st.UptimeS)))
	if st.Insecure {
		row(&b, "", "INSECURE: plain HTTP; anybody on the arbiter's network may take the leases")
	}
	if c := st.Certificate; c != nil {
		row(&b, "", fmt.Sprintf("certificate %s, ends in %s", c.Identity, pki.Ago(time.Duration(c.EndsInS*float64(time.Second)))))
	}
	row(&b, "Arbiter", arbiterText(st.Arbiter))
	row(&b, "Guard", watchdogText(st.Watchdog))
	clockText(&b, st.Clock)
	row(&b, "Budget", fmt.Sprintf("%s: renewed every %s, lost after %s, reset after %s, granted elsewhere after %s", st.Budget.Profile,
		seconds(st.Budget.RenewEveryS), seconds(st.Budget.LossAfterS), seconds(st.Budget.HardDeadlineS), seconds(st.Budget.HoldS)))
	if st.Budget.Warning != "" {
		row(&b, "", "warning: "+st.Budget.Warning)
	}
	for _, l := range st.Leases {
		leaseText(&b, l)
	}
	return b.String()
}

// row prints a line with its title in a column of its own.
func row(b *strings.Builder, title, text string) { fmt.Fprintf(b, "%-9s %s\n", title, text) }

func arbiterText(a control.Arbiter) string {
	text := strings.Join(a.URLs, " ")
	switch {
	case a.Reachable == nil:
		text += "  not asked yet"
	case *a.Reachable:
		text += "  answers"
	default:
		text += "  DOES NOT ANSWER"
	}
	if a.RTTS != nil {
		text += fmt.Sprintf(", rtt %.1fms", *a.RTTS*1000)
	}
	if a.LastAnswerAgoS != nil {
		text += ", last answer " + seconds(*a.LastAnswerAgoS) + " ago"
	}
	if a.LastError != "" && (a.Reachable == nil || !*a.Reachable) {
		text += ": " + a.LastError
	}
	return text
}

func watchdogText(d control.Watchdog) string {
	text := "mode " + d.Mode
	if d.Device != "" {
		text += ", " + d.Device
	}
	if d.TimeoutS != nil {
		text += ", timeout " + seconds(*d.TimeoutS)
	}
	if len(d.Layers) > 0 {
		text += ", reset by " + strings.Join(d.Layers, ", then ")
	}
	if d.KillTimer != nil && !*d.KillTimer {
		text += ", NO kill timer"
	}
	return text + ", pause protection " + d.PauseProtection
}

// headline says in a few words where a lease stands.
func headline(l control.Lease) string {
	text := "lease " + l.Name + " "
	switch l.State {
	case control.StateHeld:
		text += "HELD here"
	case control.StateStandby, control.StateAcquiring, control.StateStopped:
		switch {
		case !l.HolderKnown:
			text += "UNKNOWN holder"
		case l.Holder == "":
			text += "FREE"
		default:
			text += "held by " + l.Holder
		}
		text += ", here " + string(l.State)
	default:
		text += strings.ToUpper(string(l.State)) + " here"
	}
	if l.Epoch > 0 {
		text += fmt.Sprintf(", epoch %d", l.Epoch)
	}
	return text
}

func leaseText(b *strings.Builder, l control.Lease) {
	b.WriteByte('\n')
	row(b, "Lease", strings.TrimPrefix(headline(l), "lease "))
	var times []string
	if l.RenewedAgoS != nil {
		times = append(times, "renewed "+seconds(*l.RenewedAgoS)+" ago")
	}
	switch {
	case l.ExpiresInS == nil:
	case l.State == control.StatePaused:
		times = append(times, "lost in "+seconds(*l.ExpiresInS)+" if not resumed")
	default:
		times = append(times, "lost in "+seconds(*l.ExpiresInS)+" if not renewed")
	}
	guard := "guard " + l.Guard.State
	if l.Guard.UntilS != nil {
		guard += ", resets in " + seconds(*l.Guard.UntilS) + " if neither renewed nor stopped"
	}
	row(b, "", strings.Join(append(times, guard), "; "))
	for _, r := range l.Resources {
		text := fmt.Sprintf("%s (%s, %s): %s here", r.ID, orUnknown(r.Kind), orUnknown(r.Role), orUnknown(r.State))
		if r.Node != "" {
			text += ", active on " + r.Node
		}
		if r.Disabled {
			text += ", disabled: pcs resource enable " + r.ID + ", or crm resource start " + r.ID
		}
		row(b, " guards", text)
	}
	switch {
	case l.Attribute == nil:
		row(b, " attribute", "unknown")
	case *l.Attribute == "":
		row(b, " attribute", "absent")
	default:
		row(b, " attribute", *l.Attribute)
	}
	if len(l.Waiters) > 0 {
		row(b, " waiting", strings.Join(l.Waiters, ", "))
	}
	for _, reason := range l.WhyNot {
		row(b, " why not", reason)
	}
	if l.Next != "" {
		row(b, " next", l.Next)
	}
	if l.LastTransition != nil {
		row(b, " last", eventLine(*l.LastTransition))
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func resourceList(l control.Lease) string {
	var ids []string
	for _, r := range l.Resources {
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, ", ")
}

// seconds prints a duration as short as its size allows.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Minute && d > -time.Minute:
		return fmt.Sprintf("%.1fs", s)
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// printCheck is a monitoring plugin: the worst of all leases and of the node, in one line.
func printCheck(w io.Writer, st control.Status, err error) error {
	if err != nil {
		fmt.Fprintf(w, "LEASE UNKNOWN - %v\n", err)
		return &exitError{code: exitUnknown}
	}
	worst, parts := exitOK, []string{}
	for _, l := range st.Leases {
		worst = worse(worst, checkLease(l))
		parts = append(parts, headline(l))
	}
	if r := st.Arbiter.Reachable; r == nil || !*r {
		worst = worse(worst, exitFailure)
		parts = append(parts, "arbiter does not answer")
	}
	for _, a := range st.Alarms {
		worst = worse(worst, exitFailure)
		parts = append(parts, "alarm: "+a.Text)
	}
	word := map[int]string{exitOK: "OK", exitFailure: "WARNING", exitCritical: "CRITICAL", exitUnknown: "UNKNOWN"}[worst]
	fmt.Fprintf(w, "LEASE %s - %s\n", word, strings.Join(parts, "; "))
	if worst == exitOK {
		return nil
	}
	return &exitError{code: worst}
}

func checkLease(l control.Lease) int {
	switch l.State {
	case control.StateHeld:
		if len(l.WhyNot) > 0 { // its resources are not to run here
			return exitFailure
		}
		return exitOK
	case control.StateLosing:
		return exitCritical
	case control.StateAcquiring:
		if l.HolderKnown && l.Holder != "" { // a standby that is ready waits at the arbiter
			return exitOK
		}
		return exitFailure
	case control.StateLeaving, control.StatePaused, control.StateRefused:
		return exitFailure
	}
	switch {
	case !l.HolderKnown:
		return exitUnknown
	case l.Holder == "":
		return exitCritical
	}
	return exitOK
}

// worse orders OK, WARNING, UNKNOWN, CRITICAL.
func worse(a, b int) int {
	rank := map[int]int{exitOK: 0, exitFailure: 1, exitUnknown: 2, exitCritical: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
