package arbiter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/lease"
)

// maxDepth bounds how deep a body may be nested: ours are three deep.
const maxDepth = 8

// maxDuration bounds every duration on the wire.
const maxDuration = 30 * 24 * time.Hour

// strictDecode reads one JSON object into v: no duplicate field (also not by case, which encoding/json would let
// pass), nothing after the end. Unknown fields are ignored.
func strictDecode(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := checkValue(dec, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something stands after the object")
	}
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return errors.New("not a JSON object")
	}
	return json.Unmarshal(text, v)
}

func checkValue(dec *json.Decoder, depth int) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	if depth >= maxDepth {
		return errors.New("nested too deeply")
	}
	seen := map[string]bool{}
	for dec.More() {
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name := strings.ToLower(key.(string))
			if seen[name] {
				return fmt.Errorf("field %q stands there twice", key)
			}
			seen[name] = true
		}
		if err := checkValue(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// names says which names are possible. Node names are what uname(2) may say.
type names struct{ cluster, lease, node *regexp.Regexp }

func newNames() names {
	return names{
		cluster: regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`),
		lease:   regexp.MustCompile(`^[a-z0-9-]{1,32}$`),
		node:    regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`),
	}
}

// reader collects what is wrong with a body.
type reader struct {
	names names
	err   error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) duration(field string, ns int64) time.Duration {
	if ns < 0 || ns > int64(maxDuration) {
		r.fail("%s = %d: must be 0 to %d", field, ns, int64(maxDuration))
	}
	return time.Duration(ns)
}

func (r *reader) party(w api.Who) lease.Party {
	if w.Proto != api.Proto {
		r.fail("proto = %d: this arbiter speaks %d", w.Proto, api.Proto)
	}
	if !r.names.node.MatchString(w.Node) {
		r.fail("node %q is not a node's name", w.Node)
	}
	if w.BootID == "" || len(w.BootID) > 128 {
		r.fail("boot_id must have 1 to 128 characters")
	}
	if w.Seq == 0 {
		r.fail("seq must be above 0")
	}
	if len(w.Seen.StoreID) > 128 {
		r.fail("seen.store_id must have at most 128 characters")
	}
	i, err := lease.ParseInstance(w.Instance)
	if err != nil {
		r.fail("instance: %w", err)
	}
	return lease.Party{Node: w.Node, BootID: w.BootID, Instance: i}
}

func (r *reader) claim(c *api.Claim) *lease.Claim {
	if c == nil {
		return nil
	}
	s := lease.ClaimState(c.State)
	if s != lease.ClaimHeld && s != lease.ClaimLeaving && s != lease.ClaimPaused {
		r.fail("claim.state = %q: must be held, leaving or paused", c.State)
	}
	if c.Epoch == 0 {
		r.fail("claim.epoch must be above 0")
	}
	return &lease.Claim{Epoch: lease.Epoch(c.Epoch), State: s, Hold: r.duration("claim.hold_ns", c.HoldNS),
		PauseFor: r.duration("claim.pause_for_ns", c.PauseForNS)}
}

func (r *reader) terms(t api.Terms) lease.Terms {
	return lease.Terms{
		LossAfter: r.duration("terms.loss_after_ns", t.LossAfterNS), StopBudget: r.duration("terms.stop_budget_ns", t.StopBudgetNS),
		TimerSlack: r.duration("terms.timer_slack_ns", t.TimerSlackNS), Watchdog: r.duration("terms.watchdog_ns", t.WatchdogNS),
		Quantum: r.duration("terms.quantum_ns", t.QuantumNS), Chances: t.Chances,
		ResetLatency: r.duration("terms.reset_latency_ns", t.ResetLatencyNS), DriftPPM: t.DriftPPM,
	}
}

// request turns a body into a message of package lease. node is who the body says that it comes from.
func (r *reader) request(verb string, text []byte) (body any, node string, err error) {
	decode := func(v any) bool {
		if err := strictDecode(text, v); err != nil {
			r.fail("%w", err)
			return false
		}
		return true
	}
	switch verb {
	case api.VerbAcquire:
		var w api.Acquire
		if decode(&w) {
			body, node = lease.Acquire{Party: r.party(w.Who), Seq: w.Seq, Claim: r.claim(w.Claim), SeenEpoch: lease.Epoch(w.SeenEpoch),
				Seen: lease.Stamp(w.Seen), Terms: r.terms(w.Terms), Hold: r.duration("hold_ns", w.HoldNS),
				Wait: r.duration("wait_ns", w.WaitNS), Ready: w.Ready, LastResort: w.LastResort, Stopped: w.Stopped}, w.Node
		}
	case api.VerbRenew:
		var w api.Renew
		if decode(&w) {
			body, node = lease.Renew{Party: r.party(w.Who), Epoch: r.epoch(w.Epoch), Seq: w.Seq, Seen: lease.Stamp(w.Seen),
				Claim: r.claim(w.Claim)}, w.Node
		}
	case api.VerbRelease:
		var w api.Release
		if decode(&w) {
			body, node = lease.Release{Party: r.party(w.Who), Epoch: r.epoch(w.Epoch), Seq: w.Seq, Seen: lease.Stamp(w.Seen)}, w.Node
		}
	case api.VerbPause:
		var w api.Pause
		if decode(&w) {
			body, node = lease.Pause{Party: r.party(w.Who), Epoch: r.epoch(w.Epoch), Seq: w.Seq, Seen: lease.Stamp(w.Seen),
				For: r.duration("for_ns", w.ForNS), Terms: r.terms(w.Terms)}, w.Node
		}
	case api.VerbResume:
		var w api.Resume
		if decode(&w) {
			body, node = lease.Resume{Party: r.party(w.Who), Epoch: r.epoch(w.Epoch), Seq: w.Seq, Seen: lease.Stamp(w.Seen)}, w.Node
		}
	case api.VerbSwitchover:
		var w api.Switchover
		if decode(&w) {
			r.passedOn(w.Proto, w.Node)
			if !r.names.node.MatchString(w.To) {
				r.fail("to %q is not a node's name", w.To)
			}
			body, node = lease.Switchover{Epoch: lease.Epoch(w.Epoch), To: w.To}, w.Node
		}
	case api.VerbResumeAsk:
		var w api.ResumeAsk
		if decode(&w) {
			r.passedOn(w.Proto, w.Node)
			body, node = lease.ResumeAsk{}, w.Node
		}
	}
	return body, node, r.err
}

// report reads what a node says about its leases. Without an instance it says nothing about them.
func (r *reader) report(w api.Report) (body lease.Report, speaks bool, err error) {
	r.alarms(w.Alarms)
	if w.Instance == "" {
		return body, false, r.err
	}
	body = lease.Report{Party: r.party(w.Who), Seq: w.Seq, Seen: lease.Stamp(w.Seen)}
	if len(w.Leases) > maxReported {
		r.fail("%d leases in one report", len(w.Leases))
	}
	for _, l := range w.Leases {
		if !valid(r.names.lease, l.Lease) {
			r.fail("lease %q is not a name", l.Lease)
		}
		body.Leases = append(body.Leases, lease.LeaseReport{Lease: l.Lease, SeenEpoch: lease.Epoch(l.SeenEpoch)})
	}
	return body, true, r.err
}

// alarms are for an administrator's terminal, and must be text there.
func (r *reader) alarms(texts []string) {
	if len(texts) > api.MaxAlarms {
		r.fail("%d alarms in one report", len(texts))
	}
	for _, t := range texts {
		unprintable := func(c rune) bool { return c == utf8.RuneError || !unicode.IsPrint(c) }
		if len(t) > api.MaxAlarm || strings.ContainsFunc(t, unprintable) {
			r.fail("an alarm of %d bytes: it must be printable, of %d bytes at most", len(t), api.MaxAlarm)
		}
	}
}

// maxReported bounds the leases of a node.
const maxReported = 64

// fence reads a request to fence target.
func (r *reader) fence(text []byte, target string) (lease.Fence, error) {
	var w api.Fence
	if err := strictDecode(text, &w); err != nil {
		return lease.Fence{}, err
	}
	if len(w.Boot) > 128 {
		r.fail("boot_mark must have at most 128 characters")
	}
	return lease.Fence{Party: r.party(w.Who), Seq: w.Seq, Seen: lease.Stamp(w.Seen), Target: target, Off: w.Off, Guarded: w.Guarded,
		Boot: w.Boot, Check: w.Check}, r.err
}

// passedOn checks a request of an administrator, which a node may pass on.
func (r *reader) passedOn(proto int, node string) {
	if proto != api.Proto {
		r.fail("proto = %d: this arbiter speaks %d", proto, api.Proto)
	}
	if node != "" && !r.names.node.MatchString(node) {
		r.fail("node %q is not a node's name", node)
	}
}

func (r *reader) epoch(e uint64) lease.Epoch {
	if e == 0 {
		r.fail("epoch must be above 0")
	}
	return lease.Epoch(e)
}

// toWire is an answer as it leaves.
func toWire(a lease.Answer) api.Answer {
	w := api.Answer{Proto: api.Proto, Verdict: string(a.Verdict), Epoch: uint64(a.Epoch), Seq: a.Seq, HoldNS: int64(a.Hold),
		Stamp: api.Stamp(a.Stamp), Reason: a.Reason, Holder: a.Holder, FreeInNS: int64(a.FreeIn), Waiters: waiters(a.Waiters),
		MoveTo: a.MoveTo, ResumeAsk: a.ResumeAsk, Paused: a.Paused, BarredBoot: a.BarredBoot, Off: a.Off, Boot: a.Boot, QuietNS: int64(a.Quiet),
		ElapsedNS: int64(a.Elapsed)}
	if a.Echo != nil {
		echo := api.Stamp(*a.Echo)
		w.Echo = &echo
	}
	return w
}

func waiters(in []lease.Waiter) []api.Waiter {
	var out []api.Waiter
	for _, w := range in {
		out = append(out, api.Waiter(w))
	}
	return out
}
