package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/sim"
)

// question is what "leasedog simulate" is asked.
type question struct {
	Source  string // of the budget, for eyes
	Budget  lease.Budget
	Network sim.Network
	Stop    sim.Range
	Start   sim.Range
	Token   time.Duration
	Outages []outage
	Samples int // of each thing that is tried
	Seed    uint64
}

// outage is a regular cut of one node, or of all, from the arbiter.
type outage struct {
	For, Every time.Duration
	Node       int // 0: all nodes
}

func (o outage) String() string {
	who := "every node loses"
	if o.Node > 0 {
		who = fmt.Sprintf("node %d loses", o.Node)
	}
	return fmt.Sprintf("%s the arbiter for %v each %v", who, o.For, o.Every)
}

type simulateFlags struct {
	profile              string
	latency, stop, start string
	loss, duplicates     float64
	outages              []string
	token                time.Duration
	samples              int
	seed                 uint64
	html                 string
}

func newSimulateCommand(o *options) *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use: "simulate", Args: noArgs,
		Short: "predict failover times, false stops and resets for a network",
		Long: "Plays the protocol, the very code that runs on the nodes and at the arbiter, in simulated time: with the budget " +
			"of the configuration or of a profile, and the network and the stop and start times that the flags describe. " +
			"Answers how long a failover takes, how often the network alone would cost the service or a reset, and how much " +
			"time was left at worst. It asks nothing of this node and changes nothing. Exit code 1 if a resource ever ran twice.",
		Example: "  leasedog simulate --profile lan --outage 4s/12h\n" +
			"  leasedog simulate --loss 2 --latency 20ms-80ms --stop 3s-8s --html report.html",
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", "", "take a `profile` instead of the configuration: fast, lan, standard or wan")
	flags.StringVar(&f.latency, "latency", "500us-3ms", "one way between node and arbiter: a `duration`, or two with - between")
	flags.Float64Var(&f.loss, "loss", 0, "`percent` of the messages that are lost, each way")
	flags.Float64Var(&f.duplicates, "duplicates", 0, "`percent` of the messages that arrive twice")
	flags.StringArrayVar(&f.outages, "outage", nil, "`FOR/EVERY[/NODE]`: every node, or that one (1 or 2), loses the arbiter; may be repeated")
	flags.StringVar(&f.stop, "stop", "100ms-500ms", "how long Pacemaker takes to stop the resources: a `duration`, or two")
	flags.StringVar(&f.start, "start", "100ms-500ms", "and to start them")
	flags.DurationVar(&f.token, "token", time.Second, "Corosync's token timeout")
	flags.IntVar(&f.samples, "samples", 400, "how often each thing is tried, 1 to 100000")
	flags.Uint64Var(&f.seed, "seed", 1, "of everything random: the same seed gives the same answer")
	flags.StringVar(&f.html, "html", "", "also write a report with plots to `file`")
	return cmd
}

func (f simulateFlags) run(cmd *cobra.Command, o *options) error {
	q, err := f.question(o)
	if err != nil {
		return err
	}
	a := q.play(runtime.GOMAXPROCS(0))
	if f.html != "" {
		page, err := a.html()
		if err == nil {
			err = renameio.WriteFile(f.html, page, 0o644)
		}
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if o.output == outputJSON {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		err = e.Encode(a.json())
	} else {
		_, err = fmt.Fprint(cmd.OutOrStdout(), a.text())
	}
	if err == nil && len(a.Violations) > 0 {
		return &exitError{code: exitFailure, err: errors.New("an invariant was broken: " + a.Violations[0]),
			hint: "this is a fault of leasedog: please report it with the command"}
	}
	return err
}

func (f simulateFlags) question(o *options) (q question, err error) {
	q = question{Source: "profile " + f.profile, Token: f.token, Samples: f.samples, Seed: f.seed,
		Network: sim.Network{Loss: f.loss, Twice: f.duplicates}}
	if f.profile != "" {
		if q.Budget, err = lease.Profile(f.profile); err != nil {
			return q, usageError("%w", err)
		}
	} else {
		q.Source = o.configPath
		if q.Budget, err = config.LoadBudget(o.configPath); err != nil {
			return q, &exitError{code: exitConfig, err: err, hint: `"leasedog simulate --profile lan" needs no configuration`}
		}
	}
	if v := q.Budget.Violations(); len(v) > 0 {
		return q, &exitError{code: exitConfig, err: fmt.Errorf("the budget is refused: %v", v[0]), hint: v[0].Advice}
	}
	for _, r := range []struct {
		flag, text string
		into       *sim.Range
	}{{"latency", f.latency, &q.Network.Latency}, {"stop", f.stop, &q.Stop}, {"start", f.start, &q.Start}} {
		if *r.into, err = parseRange(r.text); err != nil {
			return q, usageError("--%s %s: %w", r.flag, r.text, err)
		}
	}
	for _, text := range f.outages {
		out, err := parseOutage(text, q.Budget)
		if err != nil {
			return q, usageError("--outage %s: %w", text, err)
		}
		q.Outages = append(q.Outages, out)
	}
	switch {
	case f.loss < 0 || f.loss > 90 || f.duplicates < 0 || f.duplicates > 90 || f.loss != f.loss || f.duplicates != f.duplicates:
		return q, usageError("--loss and --duplicates are percentages from 0 to 90")
	case f.samples < 1 || f.samples > 100_000:
		return q, usageError("--samples %d: from 1 to 100000", f.samples)
	case f.token <= 0 || f.token > time.Hour:
		return q, usageError("--token %v: above 0 and at most an hour", f.token)
	}
	return q, nil
}

// maxSpan bounds every duration that is asked for.
const maxSpan = time.Hour

func parseRange(text string) (r sim.Range, err error) {
	least, most, two := strings.Cut(text, "-")
	if r.Min, err = time.ParseDuration(least); err != nil {
		return r, errors.New("write a duration such as 20ms, or two with - between")
	}
	if r.Max = r.Min; two {
		if r.Max, err = time.ParseDuration(most); err != nil {
			return r, errors.New("write a duration such as 20ms, or two with - between")
		}
	}
	if r.Min <= 0 || r.Max < r.Min || r.Max > maxSpan {
		return r, fmt.Errorf("from above 0 to %v, the smaller one first", maxSpan)
	}
	return r, nil
}

func parseOutage(text string, b lease.Budget) (o outage, err error) {
	part := strings.Split(text, "/")
	if len(part) < 2 || len(part) > 3 {
		return o, errors.New("write FOR/EVERY or FOR/EVERY/NODE, such as 4s/12h")
	}
	if o.For, err = time.ParseDuration(part[0]); err != nil || o.For <= 0 || o.For > maxSpan {
		return o, fmt.Errorf("%s: how long it lasts is a duration such as 4s, at most %v", part[0], maxSpan)
	}
	if o.Every, err = time.ParseDuration(part[1]); err != nil || o.Every < o.For+2*b.Hold() {
		return o, fmt.Errorf("%s: how often is a duration such as 12h, at least %v, so that each outage counts by itself",
			part[1], o.For+2*b.Hold())
	}
	if len(part) == 3 {
		if o.Node, err = strconv.Atoi(part[2]); err != nil || o.Node < 1 || o.Node > 2 {
			return o, fmt.Errorf("%s: the node is 1 or 2", part[2])
		}
	}
	return o, nil
}
