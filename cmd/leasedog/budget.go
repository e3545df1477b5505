package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
)

// defaultToken is Corosync's (corosync.conf(5), totem.token since 3.1).
const defaultToken = 3 * time.Second

// whatIf are the flags of budget.
type whatIf struct {
	profile     string
	token, stop time.Duration
	stopBudget  time.Duration
	lossAfter   time.Duration
	ttl         time.Duration
	watchdog    time.Duration
}

func newBudgetCommand(o *options) *cobra.Command {
	var w whatIf
	cmd := &cobra.Command{
		Use: "budget", Args: noArgs,
		Short: "print the arithmetic of the durations, also for other values",
		Long: "Prints every line of the arithmetic that makes two copies impossible, with both sides' numbers, for the " +
			"configuration or (with --profile) for a profile. The other flags answer what-if questions; nothing is changed. " +
			"Exit code 1 if a line does not hold.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, source, err := w.budget(cmd, o)
			if err != nil {
				return err
			}
			if o.output == outputJSON {
				err = budgetJSON(cmd.OutOrStdout(), b, w)
			} else {
				err = budgetText(cmd.OutOrStdout(), b, w, source)
			}
			if err == nil && len(b.Violations()) > 0 {
				return &exitError{code: exitFailure, err: fmt.Errorf("this budget is refused"), hint: b.Violations()[0].Advice}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&w.profile, "profile", "", "take a `profile` instead of the configuration: fast, lan, standard or wan")
	f.DurationVar(&w.token, "token", defaultToken, "Corosync's token timeout")
	f.DurationVar(&w.stop, "stop", 0, "how long the slowest group takes to stop")
	f.DurationVar(&w.stopBudget, "stop-budget", 0, "what if stop_budget were `duration`")
	f.DurationVar(&w.lossAfter, "loss-after", 0, "what if loss_after were `duration`")
	f.DurationVar(&w.ttl, "ttl", 0, "what if ttl were `duration`")
	f.DurationVar(&w.watchdog, "watchdog-timeout", 0, "what if the watchdog's real timeout were `duration` (ttl follows)")
	return cmd
}

func (w whatIf) budget(cmd *cobra.Command, o *options) (b lease.Budget, source string, err error) {
	if w.profile != "" {
		source = "profile " + w.profile
		if b, err = lease.Profile(w.profile); err != nil {
			return b, "", usageError("%w", err)
		}
	} else {
		source = o.configPath
		if b, err = config.LoadBudget(o.configPath); err != nil {
			return b, "", &exitError{code: exitConfig, err: err, hint: `"leasedog budget --profile lan" needs no configuration`}
		}
	}
	for name, set := range map[string]func(){
		"stop-budget": func() { b.StopBudget = w.stopBudget },
		"loss-after":  func() { b.LossAfter = w.lossAfter },
		"ttl":         func() { b.TTL = w.ttl },
	} {
		if cmd.Flags().Changed(name) {
			set()
		}
	}
	if cmd.Flags().Changed("watchdog-timeout") {
		if w.watchdog <= 0 {
			return b, "", usageError("--watchdog-timeout %v: must be above 0", w.watchdog)
		}
		b = b.WithWatchdog(w.watchdog)
	}
	if w.token <= 0 || w.stop < 0 {
		return b, "", usageError("--token must be above 0 and --stop not below")
	}
	return b, source, nil
}

func budgetText(w io.Writer, b lease.Budget, q whatIf, source string) error {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("Budget from %s", source)
	p("  R  renew_every       %-8v  the holder renews this often", b.RenewEvery)
	p("  T  request_timeout   %-8v  deadline of one request", b.RequestTimeout)
	p("  n  attempts          %-8d  renewals that may be tried before the loss", b.Attempts)
	p("  L  loss_after        %-8v  lost this long after the last acknowledged renewal was sent", b.LossAfter)
	p("  S  stop_budget       %-8v  time to stop and to prove it", b.StopBudget)
	p("  F  L + S             %-8v  not proven stopped by then: the guard resets the node", b.HardDeadline())
	p("  J  timer_slack       %-8v  how late a timer may fire", b.TimerSlack)
	p("  W  watchdog_timeout  %-8v  as read back from the device", b.Watchdog)
	p("  q  watchdog_quantum  %-8v  granularity of the device", b.Quantum)
	p("  c  chances           %-8d  1 with the kill timer, 2 without", b.Chances)
	p("  K  reset_latency     %-8v  from the reset to the last possible write", b.ResetLatency)
	p("  ρ  drift_ppm         %-8d  bound of a clock's rate error", b.DriftPPM)
	p("     ttl               %-8v  the node is silent at the latest", b.TTL)
	p("  G  grace             %-8v  added by the arbiter", b.Grace)
	p("  H  ttl + G           %-8v  nobody else is granted the lease before", b.Hold())
	violations := b.Violations()
	for _, v := range violations {
		if v.Line == "range" {
			p("REFUSED   %v", v)
			return nil
		}
	}
	attempts := time.Duration(b.Attempts)*b.RenewEvery + b.RequestTimeout
	verdict(p, "liveness", attempts <= b.LossAfter)
	p("  n·R + T ≤ L")
	p("  %d·%v + %v = %v ≤ %v", b.Attempts, b.RenewEvery, b.RequestTimeout, attempts, b.LossAfter)
	verdict(p, "safety", b.NeededHold() <= b.Hold())
	p("  (1+ρ)·[ (L + S + J + c·(W+q)) / (1−ρ) + K ] ≤ H")
	p("  (1+ρ)·[ (%v + %v + %v + %d·(%v+%v)) / (1−ρ) + %v ] = %v ≤ %v", b.LossAfter, b.StopBudget, b.TimerSlack, b.Chances,
		b.Watchdog, b.Quantum, b.ResetLatency, b.NeededHold(), b.Hold())
	for _, v := range violations {
		p("  %s: %s", v.Line, v.Advice)
	}
	comfortText(p, b, q)
	notice := lease.Notice(q.token)
	p("takeover  at most max(H, notice(token)) + start = max(%v, %v) + start = %v + start", b.Hold(), notice, max(b.Hold(), notice))
	return nil
}

func verdict(p func(string, ...any), line string, holds bool) {
	word := "holds"
	if !holds {
		word = "VIOLATED"
	}
	p("%-9s %s", line, word)
}

func comfortText(p func(string, ...any), b lease.Budget, q whatIf) {
	v, holds := b.Comfort(q.token, q.stop)
	notice := lease.Notice(q.token)
	verdict(p, "comfort", holds)
	p("  notice(token) + stop + 0.5s ≤ F − R, with a token of %v", q.token)
	p("  %v + %v + 0.5s = %v ≤ %v", notice, q.stop, notice+q.stop+500*time.Millisecond, b.HardDeadline()-b.RenewEvery)
	switch room := b.HardDeadline() - b.RenewEvery - notice - 500*time.Millisecond; {
	case !holds:
		p("  safe, but %s", v.Advice)
	case q.stop == 0:
		p("  a group that takes up to %v to stop fits", room)
	}
}

func budgetJSON(w io.Writer, b lease.Budget, q whatIf) error {
	type line struct {
		Line    string  `json:"line"`
		Formula string  `json:"formula,omitempty"`
		LeftS   float64 `json:"left_s"`
		RightS  float64 `json:"right_s"`
		Advice  string  `json:"advice"`
	}
	violations := []line{}
	for _, v := range b.Violations() {
		violations = append(violations, line{v.Line, v.Formula, v.Left.Seconds(), v.Right.Seconds(), v.Advice})
	}
	_, comfort := b.Comfort(q.token, q.stop)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Schema         int     `json:"schema"`
		Profile        string  `json:"profile"`
		RenewEvery     float64 `json:"renew_every_s"`
		RequestTimeout float64 `json:"request_timeout_s"`
		Attempts       int     `json:"attempts"`
		LossAfter      float64 `json:"loss_after_s"`
		StopBudget     float64 `json:"stop_budget_s"`
		HardDeadline   float64 `json:"hard_deadline_s"`
		TimerSlack     float64 `json:"timer_slack_s"`
		Watchdog       float64 `json:"watchdog_timeout_s"`
		Quantum        float64 `json:"watchdog_quantum_s"`
		Chances        int     `json:"chances"`
		ResetLatency   float64 `json:"reset_latency_s"`
		DriftPPM       int     `json:"drift_ppm"`
		TTL            float64 `json:"ttl_s"`
		Grace          float64 `json:"grace_s"`
		Hold           float64 `json:"hold_s"`
		NeededHold     float64 `json:"needed_hold_s"`
		Token          float64 `json:"token_s"`
		Notice         float64 `json:"notice_s"`
		Comfort        bool    `json:"comfort"`
		Violations     []line  `json:"violations"`
	}{
		1, b.Profile, b.RenewEvery.Seconds(), b.RequestTimeout.Seconds(), b.Attempts, b.LossAfter.Seconds(),
		b.StopBudget.Seconds(), b.HardDeadline().Seconds(), b.TimerSlack.Seconds(), b.Watchdog.Seconds(), b.Quantum.Seconds(),
		b.Chances, b.ResetLatency.Seconds(), b.DriftPPM, b.TTL.Seconds(), b.Grace.Seconds(), b.Hold().Seconds(),
		b.NeededHold().Seconds(), q.token.Seconds(), lease.Notice(q.token).Seconds(), comfort, violations,
	})
}
