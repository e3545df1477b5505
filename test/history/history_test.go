package history

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

var (
	rounds = flag.Int("history.rounds", 1, "rounds of TestHistories, each with a store of its own")
	length = flag.Duration("history.for", 6*time.Second, "length of a round")
	every  = flag.Bool("history.mistakes", false, "every wrong arbiter, not only the first few")
	seed   = flag.Uint64("history.seed", 1, "seed of the first round")
)

const root = "../.."

// build builds an arbiter, in its right form or with mistakes.
func build(t *testing.T, edits ...Edit) string {
	t.Helper()
	if _, err := os.Stat("/etc/machine-id"); err != nil {
		t.Skipf("the arbiter needs a machine id: %v", err)
	}
	binary, err := Build(root, t.TempDir(), edits...)
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// round plays once.
func round(t *testing.T, binary string, opt Options) Result {
	t.Helper()
	dir, err := os.MkdirTemp("", "hist")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p, err := NewProcess(binary, dir, time.Millisecond, Hold)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	opt.Arbiter = p
	res, err := Play(opt)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		log, _ := os.ReadFile(dir + "/log")
		t.Fatalf("%v\n%s", err, log)
	}
	return res
}

// The arbiter that is built from this source, killed and frozen under concurrent nodes, keeps its promises.
func TestHistories(t *testing.T) {
	t.Parallel()
	binary := build(t)
	for i := range *rounds {
		opt := Options{Seed: *seed + uint64(i), For: *length, Kills: max(1, int(*length/(3*time.Second))), Leases: 3, Nodes: 3, Blind: i%2 == 0}
		// On a machine that is busy with something else too little may happen in the time of one round.
		quiet := ErrQuiet
		for try := 0; quiet != nil && try < quietRounds; try++ {
			opt.Seed += uint64(*rounds * try)
			quiet = judge(t, opt, round(t, binary, opt))
		}
		if quiet != nil {
			t.Error(quiet)
		}
	}
}

// quietRounds is how often a round is played in which too little happened.
const quietRounds = 5

// judge checks one round, and returns whether enough happened in it for that to mean something.
func judge(t *testing.T, opt Options, res Result) error {
	t.Helper()
	if res.Recoveries > 0 {
		t.Errorf("seed %d: %d answers say that the arbiter found itself behind what nodes had seen", opt.Seed, res.Recoveries)
	}
	for _, v := range Check(res.Ops, time.Minute) {
		if !v.OK {
			t.Errorf("seed %d, lease %s: %s", opt.Seed, v.Lease, v.Why)
			keep(t, opt.Seed, res.Ops)
		}
	}
	t.Logf("seed %d: %s", opt.Seed, count(res.Ops))
	if err := Busy(res.Ops, opt.Kills); err != nil {
		return fmt.Errorf("seed %d: %w", opt.Seed, err)
	}
	return nil
}

// keep writes a history for whoever has to look at it: go test -artifacts.
func keep(t *testing.T, seed uint64, ops []Op) {
	t.Helper()
	text, err := json.Marshal(ops)
	if err == nil {
		err = os.WriteFile(filepath.Join(t.ArtifactDir(), fmt.Sprintf("seed-%d.json", seed)), text, 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}

func count(ops []Op) string {
	n := map[string]int{}
	for _, o := range ops {
		n[string(o.Verb)+" "+string(o.Outcome)]++
	}
	return fmt.Sprintf("%d operations %v", len(ops), n)
}

// Arbiters with a known mistake are caught.
func TestWrongArbitersAreCaught(t *testing.T) {
	mistakes := []struct {
		name  string
		edits []Edit
	}{
		{"no quarantine", []Edit{{"lease/grantor.go", "l.holdEnd = now.Add(hold)", "l.holdEnd = now.Add(0 * hold)"}}},
		{"replies before it has written", []Edit{{"arbiter/cluster.go",
			"c.store.Write(c.name, a.Change, func(err error) { c.results <- lease.Stored{Txn: a.Txn, Err: err} })",
			"time.AfterFunc(400*time.Millisecond, func() { c.store.Write(c.name, a.Change, func(error) {}) })\n" +
				"\t\t\tc.results <- lease.Stored{Txn: a.Txn}"}}},
		{"an epoch is used again", []Edit{{"lease/grantor_acquire.go", "epoch := max(l.rec.Epoch, l.rec.Floor, a.SeenEpoch) + 1",
			"epoch := max(l.rec.Epoch, a.SeenEpoch, 1)"}}},
		{"half a hold", []Edit{{"lease/grantor_renew.go", "l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))",
			"l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold/2))"}}},
		{"a release of an old epoch counts", []Edit{{"lease/grantor_renew.go", "ok := g.speaks(l, r, b.Party, b.Epoch)",
			"ok := b.Epoch <= l.rec.Epoch"}}},
		{"the end of a hold comes nearer", []Edit{{"lease/grantor_renew.go", "l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))",
			"l.holdEnd = now"}}},
	}
	if !*every {
		mistakes = mistakes[:3]
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			binary := build(t, m.edits...)
			for i := range 5 {
				res := round(t, binary, Options{Seed: *seed + uint64(i), For: 3 * time.Second, Kills: 2, Leases: 3, Nodes: 3, Blind: true})
				for _, v := range Check(res.Ops, time.Minute) {
					if !v.OK {
						t.Logf("caught in round %d: lease %s: %s", i+1, v.Lease, v.Why)
						return
					}
				}
			}
			t.Error("not caught")
		})
	}
}

// doctored is a history with round numbers, in milliseconds.
func doctored(ops ...Op) []Op {
	for i := range ops {
		ops[i].Lease, ops[i].Hold = "pg", 100*time.Millisecond
		ops[i].Call *= lease.Instant(time.Millisecond)
		ops[i].Return *= lease.Instant(time.Millisecond)
	}
	return ops
}

// Histories that no arbiter may produce are refused, each for one reason; their neighbours, that one may, are not.
func TestDoctoredHistories(t *testing.T) {
	grant := func(node string, epoch lease.Epoch, call, ret lease.Instant) Op {
		return Op{Node: node, Verb: Acquire, Outcome: Granted, Epoch: epoch, Call: call, Return: ret}
	}
	renew := func(node string, epoch lease.Epoch, call, ret lease.Instant) Op {
		return Op{Node: node, Verb: Renew, Outcome: Done, Asked: epoch, Call: call, Return: ret}
	}
	release := func(node string, epoch lease.Epoch, call, ret lease.Instant) Op {
		return Op{Node: node, Verb: Release, Outcome: Done, Asked: epoch, Seq: 7, Call: call, Return: ret}
	}
	denied := func(node string, epoch lease.Epoch, holder string, call, ret lease.Instant) Op {
		return Op{Node: node, Verb: Acquire, Outcome: Held, Epoch: epoch, Holder: holder, Call: call, Return: ret}
	}
	restart := func(call, ret lease.Instant) Op { return Op{Verb: Restart, Outcome: Done, Call: call, Return: ret} }
	with := func(o Op, outcome Outcome) Op { o.Outcome = outcome; return o }
	held := []Op{grant("a", 1, 0, 1), renew("a", 1, 10, 12)}
	after := func(more ...Op) []Op { return doctored(append(append([]Op(nil), held...), more...)...) }
	for _, c := range []struct {
		name string
		ops  []Op
		ok   bool
	}{
		{"granted after the hold", after(grant("b", 2, 20, 111)), true},
		{"granted before the end of the hold", after(grant("b", 2, 20, 109)), false},
		{"a poll that was answered in time", after(grant("b", 2, 109, 110)), true},
		{"an epoch is used again", after(grant("b", 1, 200, 201)), false},
		{"an epoch is left out", after(grant("b", 3, 200, 201)), false},
		{"renewed after another was granted", after(grant("b", 2, 200, 201), renew("a", 1, 202, 203)), false},
		{"renewed after the hold, before another was granted", after(renew("a", 1, 202, 203), grant("b", 2, 220, 303)), true},
		{"the same, and the hold is not kept", after(renew("a", 1, 202, 203), grant("b", 2, 220, 301)), false},
		{"a renewal nobody answered obliges nobody", after(with(renew("a", 1, 60, 70), Unknown), grant("b", 2, 20, 111)), true},
		{"released, granted at once", after(release("a", 1, 20, 21), grant("b", 2, 22, 23)), true},
		{"a release without an answer, granted at once", after(with(release("a", 1, 20, 21), Unknown), grant("b", 2, 22, 23)), true},
		{"a release is repeated", after(with(release("a", 1, 20, 21), Unknown), release("a", 1, 22, 23)), true},
		{"a release that was answered is forgotten", after(release("a", 1, 20, 21), denied("b", 1, "a", 22, 23)), false},
		{"a grant that was answered is forgotten", after(grant("b", 2, 200, 201), denied("a", 1, "a", 202, 203)), false},
		{"a grant without an answer is seen later", after(with(grant("b", 0, 200, 201), Unknown), denied("a", 2, "b", 202, 203)), true},
		{"a grant without an answer is never seen", after(with(grant("b", 0, 200, 201), Unknown), denied("a", 1, "a", 202, 203)), true},
		{"it is seen, and then not", after(with(grant("b", 0, 200, 201), Unknown), denied("a", 2, "b", 202, 203),
			denied("a", 1, "a", 204, 205)), false},
		{"a grant that nobody asked for", after(denied("a", 2, "b", 202, 203)), false},
		{"quarantine is kept", after(restart(300, 310), grant("b", 2, 311, 401)), true},
		{"quarantine is not kept", after(restart(300, 310), grant("b", 2, 311, 399)), false},
		{"its own holder again at once", after(grant("a", 2, 20, 21)), true},
		{"and its old hold is still kept", after(grant("a", 2, 20, 21), grant("b", 3, 22, 109)), false},
		{"lost, and it was not", after(Op{Node: "a", Verb: Renew, Outcome: Lost, Asked: 1, Epoch: 1, Holder: "a", Call: 20, Return: 21}), false},
	} {
		if v := Check(c.ops, time.Minute); len(v) != 1 || v[0].OK != c.ok {
			t.Errorf("%s: OK %v, want %v\n%s", c.name, v[0].OK, c.ok, v[0].Why)
		}
	}
}
