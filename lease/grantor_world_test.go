package lease

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// grantorWorld is one arbiter with a disk, and nodes that remember what they have seen.
type grantorWorld struct {
	t       scenarioT
	g       *Grantor
	now     Instant
	disk    Snapshot
	kept    Snapshot
	ids     int // store ids given out
	request RequestID
	written map[Stamp]bool // stamps that are or were on disk; the zero one is no stamp
	auto    bool           // writes succeed at once
	waiting *StoreChange
	seqs    map[Party]uint64
	seen    map[string]Stamp
	epochs  map[string]Epoch // node/lease
	from    map[RequestID]string
	lease   map[RequestID]string
	replies map[RequestID]Answer
	notes   []GrantorNote
	onReply func(Reply)
	out     strings.Builder
}

func newGrantorWorld(t scenarioT) *grantorWorld {
	w := &grantorWorld{t: t, auto: true, now: Instant(1000 * time.Second), seqs: map[Party]uint64{}, seen: map[string]Stamp{},
		epochs: map[string]Epoch{}, from: map[RequestID]string{}, lease: map[RequestID]string{}, replies: map[RequestID]Answer{}}
	w.disk = NewClusterSnapshot(w.storeID())
	w.written = map[Stamp]bool{{}: true, w.disk.Cluster.Stamp: true}
	w.start()
	return w
}

func (w *grantorWorld) storeID() string {
	w.ids++
	return fmt.Sprintf("store%d", w.ids)
}

func (w *grantorWorld) start() {
	w.waiting = nil
	w.g = NewGrantor(GrantorOptions{Cluster: "erp", MinHold: time.Second, MaxHold: time.Minute, MaxPause: 8 * time.Hour,
		Grace: 250 * time.Millisecond, DriftPPM: 1000, RetryWrite: time.Second, NewStoreID: w.storeID}, w.disk, w.now)
}

func (w *grantorWorld) step(ev GrantorEvent) {
	w.deliver(w.g.Step(w.now, ev))
}

// finish ends the outstanding write.
func (w *grantorWorld) finish(err error) []GrantorAction {
	s := w.waiting
	w.waiting = nil
	if err == nil {
		w.disk = applyChange(w.disk, s.Change)
		w.written[s.Change.Cluster.Stamp] = true
	}
	return w.g.Step(w.now, Stored{Txn: s.Txn, Err: err})
}

func applyChange(d Snapshot, c Change) Snapshot {
	d.Cluster, d.Suspect = c.Cluster, false
	d.Leases, d.Nodes = slices.Clone(d.Leases), slices.Clone(d.Nodes)
	for _, r := range c.Leases {
		d.Leases = append(slices.DeleteFunc(d.Leases, func(o Record) bool { return o.Lease == r.Lease }), r)
	}
	for _, n := range c.Nodes {
		d.Nodes = append(slices.DeleteFunc(d.Nodes, func(o NodeRecord) bool { return o.Node == n.Node }), n)
	}
	return d
}

// advance lets time pass as a driver does: Drained whenever Next is due.
func (w *grantorWorld) advance(d time.Duration) {
	end := w.now.Add(d)
	for range 1000 {
		next := w.g.Next()
		if next > end {
			w.now = end
			w.step(GrantorTick{})
			return
		}
		w.now = Later(w.now, next)
		w.step(Drained{})
	}
	w.t.Fatalf("Next stays in the past: %v at %v", w.g.Next(), w.now)
}

// send fills in what a node knows and gives the request to the Grantor.
func (w *grantorWorld) send(lease string, body any) RequestID {
	w.request++
	id := w.request
	p := partyOf(body)
	w.from[id], w.lease[id] = p.Node, lease
	w.step(Request{ID: id, Lease: lease, Body: body})
	return id
}

func (w *grantorWorld) learn(node, lease string, a Answer) {
	if a.Verdict == Unavailable {
		return
	}
	k := w.seen[node]
	if k.StoreID == "" || k.StoreID == a.Stamp.StoreID || (a.Echo != nil && *a.Echo == k) {
		if k.StoreID != a.Stamp.StoreID || a.Stamp.Generation > k.Generation {
			w.seen[node] = a.Stamp
		}
		w.epochs[node+"/"+lease] = max(w.epochs[node+"/"+lease], a.Epoch)
	}
}

func (w *grantorWorld) printNote(n GrantorNote) {
	fmt.Fprintf(&w.out, "%s: ", n.Level)
	if n.Lease != "" {
		fmt.Fprintf(&w.out, "%s e%d ", n.Lease, n.Epoch)
	}
	if n.Node != "" {
		fmt.Fprintf(&w.out, "[%s] ", n.Node)
	}
	fmt.Fprintln(&w.out, n.Text)
}

func (w *grantorWorld) printReply(r Reply) {
	a := r.Answer
	w.learn(w.from[r.ID], w.lease[r.ID], a)
	fmt.Fprintf(&w.out, "-> #%d %s %s", r.ID, w.from[r.ID], a.Verdict)
	add := func(ok bool, format string, args ...any) {
		if ok {
			fmt.Fprintf(&w.out, " "+format, args...)
		}
	}
	add(a.Epoch != 0, "e%d", a.Epoch)
	add(a.Seq != 0, "seq=%d", a.Seq)
	add(a.Hold != 0, "hold=%v", a.Hold)
	add(true, "stamp=%s/%d", a.Stamp.StoreID, a.Stamp.Generation)
	if a.Echo != nil {
		add(true, "echo=%s/%d", a.Echo.StoreID, a.Echo.Generation)
	}
	add(a.Holder != "", "holder=%s", a.Holder)
	add(a.FreeIn != 0, "free_in=%v", a.FreeIn)
	for _, o := range a.Waiters {
		add(true, "waits=%s", o.Node)
		add(o.Ready, "(ready)")
		add(o.LastResort, "(last resort)")
	}
	add(a.MoveTo != "", "move_to=%s", a.MoveTo)
	add(a.ResumeAsk, "resume_ask")
	add(a.Paused, "paused")
	add(a.BarredBoot, "barred")
	add(a.Off, "off")
	add(a.Boot != "", "boot=%s", a.Boot)
	add(a.Quiet != 0, "quiet=%v", a.Quiet)
	add(a.Elapsed != 0, "elapsed=%v", a.Elapsed)
	add(a.Reason != "", "(%s)", a.Reason)
	w.out.WriteByte('\n')
}

// TestGrantorScenarios runs testdata/grantor. Commands:
//
//	fence NODE[/BOOT[/INSTANCE]] target=NODE [off] [guarded] [check] [boot=BOOT]
//	acquire|renew|release|pause|resume|report NODE[/BOOT[/INSTANCE]] [key=value ...]
//	switchover NODE [epoch=N] · resume-ask [LEASE] · gone N · time D · stall D · drain · keep · restart [missing|suspect|kept]
//	store auto|hold|ok|fail · recover · free NODE · check-free NODE · bar NODE · unbar NODE · ask-resume · view · forget NODE
func TestGrantorScenarios(t *testing.T) {
	runScenarios(t, "testdata/grantor/*.txt", func(t *testing.T) func(string) string {
		w := newGrantorWorld(t)
		return w.run
	})
}

func (w *grantorWorld) run(command string) string {
	w.out.Reset()
	words := strings.Fields(command)
	arg := ""
	if len(words) > 1 {
		arg = words[1]
	}
	switch words[0] {
	case "time":
		w.advance(w.duration(arg))
	case "stall":
		w.now = w.now.Add(w.duration(arg))
	case "drain":
		w.step(Drained{})
	case "restart":
		w.restart(arg)
	case "store":
		w.store(arg)
	case "gone":
		n, _ := strconv.Atoi(arg)
		w.step(Gone{ID: RequestID(n)})
	case "resume-ask":
		w.request++
		w.step(Request{ID: w.request, Lease: cmpOr(arg, "pg"), Body: ResumeAsk{}})
	case "check-free":
		w.request++
		w.step(OperatorFree{ID: w.request, Lease: "pg", Node: arg, Check: true})
	case "recover", "free", "bar", "unbar", "ask-resume":
		w.operator(words[0], arg)
	case "switchover":
		w.request++
		kv := w.pairs(words[2:])
		w.step(Request{ID: w.request, Lease: "pg", Body: Switchover{To: arg, Epoch: Epoch(w.number(kv["epoch"]))}})
	case "keep":
		w.kept = w.disk
	case "forget":
		delete(w.seen, arg)
		delete(w.epochs, arg+"/pg")
	case "view":
		w.view()
	default:
		w.message(words[0], arg, w.pairs(words[2:]))
	}
	if w.out.Len() == 0 {
		return "ok\n"
	}
	return w.named(w.out.String())
}

// named writes boots' ids for their marks.
func (w *grantorWorld) named(text string) string {
	for p := range w.seqs {
		text = strings.ReplaceAll(text, BootMark(p.BootID), p.BootID)
	}
	return text
}

func (w *grantorWorld) restart(how string) {
	switch how {
	case "missing":
		w.disk = Snapshot{}
	case "kept":
		w.disk = w.kept
	case "suspect":
		w.disk.Suspect = true
	}
	w.start()
}

func (w *grantorWorld) store(how string) {
	switch how {
	case "auto":
		w.auto = true
	case "hold":
		w.auto = false
	case "ok", "fail":
		var err error
		if how == "fail" {
			err = errors.New("no space left on device")
		}
		if w.waiting == nil {
			w.t.Fatal("nothing to store")
		}
		w.deliver(w.finish(err))
	default:
		w.t.Fatalf("store %q", how)
	}
}

// deliver carries actions out, in their order.
func (w *grantorWorld) deliver(acts []GrantorAction) {
	for i := 0; i < len(acts); i++ {
		switch a := acts[i].(type) {
		case StoreChange:
			if w.waiting != nil {
				w.t.Fatal("two transactions outstanding")
			}
			w.waiting = &a
			if w.auto {
				acts = append(acts, w.finish(nil)...)
			}
		case Reply:
			if _, twice := w.replies[a.ID]; twice {
				w.t.Fatalf("request %d is answered twice", a.ID)
			}
			w.replies[a.ID] = a.Answer
			if !w.written[a.Answer.Stamp] {
				w.t.Fatalf("an answer says %v, which never was on disk", a.Answer.Stamp)
			}
			w.printReply(a)
			if w.onReply != nil {
				w.onReply(a)
			}
		case GrantorNote:
			w.notes = append(w.notes, a)
			w.printNote(a)
		}
	}
}

func (w *grantorWorld) operator(verb, node string) {
	w.request++
	id := w.request
	w.step(map[string]GrantorEvent{
		"recover": OperatorRecover{ID: id}, "free": OperatorFree{ID: id, Lease: "pg", Node: node},
		"bar": OperatorBar{ID: id, Node: node}, "unbar": OperatorUnbar{ID: id, Node: node},
		"ask-resume": OperatorResume{ID: id, Lease: "pg"},
	}[verb])
}

func (w *grantorWorld) party(s string) Party {
	parts := append(strings.Split(s, "/"), "b1", "1")
	boot, inst := "b1", "1"
	if n := strings.Count(s, "/"); n >= 1 {
		boot = parts[1]
		if n == 2 {
			inst = parts[2]
		}
	}
	return Party{Node: parts[0], BootID: boot, Instance: Instance{Start: Instant(w.number(inst)), Nonce: 1}}
}

func (w *grantorWorld) message(verb, who string, kv map[string]string) {
	p := w.party(who)
	w.seqs[p]++
	if kv["seq"] != "" {
		w.seqs[p] = w.number(kv["seq"])
	}
	lease := "pg"
	if kv["lease"] != "" {
		lease = kv["lease"]
	}
	seq, seen, epoch := w.seqs[p], w.seen[p.Node], w.epochs[p.Node+"/"+lease]
	if s, ok := kv["seen"]; ok {
		id, gen, _ := strings.Cut(s, "/")
		seen = Stamp{StoreID: id, Generation: w.number(gen)}
	}
	if kv["epoch"] != "" {
		epoch = Epoch(w.number(kv["epoch"]))
	}
	b, err := Profile(cmpOr(kv["profile"], "lan"))
	if err != nil {
		w.t.Fatal(err)
	}
	hold := b.Hold()
	if kv["hold"] != "" {
		hold = w.duration(kv["hold"])
	}
	_, ready := kv["ready"]
	_, last := kv["last"]
	_, stopped := kv["stopped"]
	claim := w.claim(kv["claim"])
	var body any
	switch verb {
	case "acquire":
		body = Acquire{Party: p, Seq: seq, Claim: claim, SeenEpoch: epoch, Seen: seen, Terms: b.Terms, Hold: hold,
			Wait: w.duration(cmpOr(kv["wait"], "0s")), Ready: ready, LastResort: last, Stopped: stopped}
	case "renew":
		body = Renew{Party: p, Epoch: epoch, Seq: seq, Seen: seen, Claim: claim}
	case "release":
		body = Release{Party: p, Epoch: epoch, Seq: seq, Seen: seen}
	case "pause":
		body = Pause{Party: p, Epoch: epoch, Seq: seq, Seen: seen, For: w.duration(cmpOr(kv["for"], "0s")), Terms: b.Terms}
	case "resume":
		body = Resume{Party: p, Epoch: epoch, Seq: seq, Seen: seen}
	case "report":
		body = Report{Party: p, Seen: seen, Leases: []LeaseReport{{Lease: lease, SeenEpoch: epoch, Claim: claim}}}
	case "fence":
		_, off := kv["off"]
		_, guarded := kv["guarded"]
		_, check := kv["check"]
		lease, body = "", Fence{Party: p, Seq: seq, Seen: seen, Target: kv["target"], Off: off, Guarded: guarded, Boot: BootMark(kv["boot"]), Check: check}
	default:
		w.t.Fatalf("unknown command %q", verb)
	}
	w.send(lease, body)
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// claim reads STATE:EPOCH[:HOLD[:PAUSE]].
func (w *grantorWorld) claim(s string) *Claim {
	if s == "" {
		return nil
	}
	parts := append(strings.Split(s, ":"), "8750ms", "0s")
	c := &Claim{State: ClaimState(parts[0]), Epoch: Epoch(w.number(parts[1])), Hold: 8750 * time.Millisecond}
	if n := strings.Count(s, ":"); n >= 2 {
		c.Hold = w.duration(parts[2])
		if n == 3 {
			c.PauseFor = w.duration(parts[3])
		}
	}
	return c
}

func (w *grantorWorld) view() {
	v := w.g.View(w.now)
	fmt.Fprintf(&w.out, "%s/%d", v.Stamp.StoreID, v.Stamp.Generation)
	if v.Recovery != "" {
		fmt.Fprintf(&w.out, " %s", v.Recovery)
	}
	if v.WriteError {
		fmt.Fprint(&w.out, " write error")
	}
	fmt.Fprintln(&w.out)
	for _, l := range v.Leases {
		fmt.Fprintf(&w.out, "%s %s e%d holder=%s ends_in=%v", l.Lease, l.State, l.Epoch, l.Holder.Node, l.EndsIn)
		if l.PausedFor != 0 {
			fmt.Fprintf(&w.out, " paused_for=%v", l.PausedFor)
		}
		if l.Alarm != "" {
			fmt.Fprintf(&w.out, " alarm=%q", l.Alarm)
		}
		fmt.Fprintln(&w.out)
	}
	for _, n := range v.Nodes {
		fmt.Fprintf(&w.out, "%s boot=%s barred=%v twins=%v\n", n.Node, n.Boot, n.Barred, n.Twins)
	}
}

func (w *grantorWorld) pairs(words []string) map[string]string {
	out := map[string]string{}
	for _, word := range words {
		k, v, _ := strings.Cut(word, "=")
		out[k] = v
	}
	for _, k := range slices.Sorted(maps.Keys(out)) {
		if !slices.Contains([]string{"seq", "seen", "epoch", "lease", "profile", "hold", "ready", "last", "stopped", "guarded", "off", "target", "boot", "check", "claim", "wait", "for"}, k) {
			w.t.Fatalf("unknown key %q", k)
		}
	}
	return out
}

func (w *grantorWorld) number(s string) uint64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *grantorWorld) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}
