package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Scenario is one row of the table: a fault on a healthy, settled pair, and what must hold afterwards.
type Scenario struct {
	Name  string
	About string
	// Control is a scenario that must overlap: it proves that this harness would see a split brain.
	Control bool
	// InTest marks the rows that "make test" runs, once each.
	InTest bool
	// Alone marks a row whose times are so short that no other cluster may run beside it.
	Alone bool
	// Long marks a row that takes minutes: it is played only when it is named.
	Long   bool
	Config Config
	// Bound is the longest time that the service may be gone, from the settled start to the settled end. A control has
	// none.
	Bound time.Duration
	// Run does the harm and waits for what follows. It need not mend anything. It returns an error only when the
	// scenario could not be played; what the pair did wrong goes to Run.Fail.
	Run func(context.Context, *Run) error
}

// Scenarios returns the whole table, in the order in which it is best run: rows of one configuration follow each other.
func Scenarios() []Scenario {
	return slices.Concat(plainScenarios(), classicScenarios(), leaseScenarios(), faultScenarios(), lifeScenarios(), pauseScenarios(),
		orderScenarios(), storeScenarios(), identityScenarios(), orderedScenarios(), habitScenarios(), hookScenarios(), packageScenarios(),
		fenceScenarios(), clockScenarios(), guideScenarios())
}

// Select returns the named scenarios, or all. Short leaves those of "make test".
func Select(names []string, short bool) ([]Scenario, error) {
	var selected []Scenario
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	for _, s := range Scenarios() {
		if (wanted[s.Name] || wanted["all"] && !s.Long) && (s.InTest || !short) {
			selected = append(selected, s)
		}
		delete(wanted, s.Name)
	}
	delete(wanted, "all")
	for name := range wanted {
		return nil, fmt.Errorf("no scenario is called %q (see: lab list)", name)
	}
	return selected, nil
}

// Result is what "lab run -o json" prints for a scenario: the worst of its runs.
type Result struct {
	Name     string   `json:"name"`
	Control  bool     `json:"control"`
	N        int      `json:"n"`
	Overlap  float64  `json:"overlap_s"` // of a control the smallest, else the largest
	Gap      float64  `json:"gap_s"`     // the largest
	Bound    float64  `json:"bound_s"`   // 0 for a control
	Pass     bool     `json:"pass"`
	Voids    int      `json:"voids"` // runs that proved nothing and were repeated
	Evidence []string `json:"evidence"`
}

// Outcome is one run.
type Outcome struct {
	Overlap, Gap time.Duration
	Stall        time.Duration // of the observer near a decisive moment
	Problems     []string
	Events       []string
}

// void says that the run proves nothing. Two copies that were seen were there: no stall of the machine excuses them.
func (o Outcome) void() bool { return o.Stall > observerGap && o.Overlap == 0 && len(o.Problems) == 0 }

// Run is one play of a scenario. Its methods may be called from several goroutines.
type Run struct {
	*Cluster
	Config Config
	Holder string // the node that ran the group when all was well
	Start  Monotonic
	At     Monotonic // the last fault's instant, taken just before it
	Random *rand.Rand

	say      func(string)
	mu       sync.Mutex
	events   []string
	problems []string
}

// Standby is the other node.
func (r *Run) Standby() string { return Peer(r.Holder) }

// Event notes something, with the seconds since the fault, or since the start when there was none yet.
func (r *Run) Event(format string, args ...any) { r.note(Now(), fmt.Sprintf(format, args...)) }

func (r *Run) note(at Monotonic, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := fmt.Sprintf("%+7.2f s  %s", at.Sub(r.origin()).Seconds(), text)
	r.events = append(r.events, line)
	r.say(line)
}

func (r *Run) origin() Monotonic {
	if r.At != 0 {
		return r.At
	}
	return r.Start
}

// Fail notes that the pair did something wrong. The run goes on, so that the rest is seen too.
func (r *Run) Fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.problems = append(r.problems, text)
	r.mu.Unlock()
	r.Event("WRONG: %s", text)
}

// Phase waits for a random part of the renew interval, so that faults meet every phase of it.
func (r *Run) Phase(ctx context.Context) error {
	return pause(ctx, time.Duration(r.Random.Int64N(int64(budgetOf(r.Config.Profile).renew))))
}

// Fault notes and does harm. The first fault of a run is the zero of its times.
func (r *Run) Fault(what string, do func() error) error {
	at := Now()
	r.mu.Lock()
	if r.At == 0 {
		r.At = at
	}
	r.mu.Unlock()
	r.note(at, what)
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// CutOff is the fault of cutting a link or host in both directions.
func (r *Run) CutOff(ctx context.Context, link string) error {
	return r.Fault("cut "+link, func() error { return r.Cut(ctx, Cut{Link: link, Way: BothWays}) })
}

// Takeover waits until node's canary lives, and returns how long after the first fault that was.
func (r *Run) Takeover(ctx context.Context, node string, limit time.Duration) time.Duration {
	var first Monotonic
	err := waitFor(ctx, node+" to run the group", limit, func() error {
		beats, err := r.Beats(node, r.At)
		if err != nil {
			return err
		}
		if len(beats) == 0 {
			return errors.New("its canary is silent")
		}
		first = beats[0].At
		return nil
	})
	if err != nil {
		r.Fail("%v", err)
		return limit
	}
	return first.Sub(r.At)
}

// Ends returns how often and how a host ended since the run's start.
func (r *Run) Ends(host string) []HostEvent {
	events, err := r.HostEvents(host, r.Start)
	if err != nil {
		r.Fail("%v", err)
	}
	return slices.DeleteFunc(events, func(e HostEvent) bool { return e.What == Booted })
}

// watch notes what the hosts and canaries do, as it happens, until ctx ends.
func (r *Run) watch(ctx context.Context) {
	running := map[string]bool{r.Holder: true}
	seen := r.Start
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, node := range Nodes() {
			beats, err := r.Beats(node, Now().Add(-3*serveGap))
			if err != nil || (len(beats) > 0) == running[node] {
				continue
			}
			running[node] = len(beats) > 0
			if running[node] {
				r.note(beats[0].At, node+" runs the group")
			} else {
				r.note(Now().Add(-3*serveGap), node+" no longer runs the group")
			}
		}
		newest := seen
		for _, host := range Hosts() {
			events, _ := r.HostEvents(host, seen+1)
			for _, e := range events {
				r.note(e.At, fmt.Sprintf("%s: %s", host, e.What))
				newest = max(newest, e.At)
			}
		}
		seen = newest
	}
}

// maxVoids is how often a run that proved nothing is repeated.
const maxVoids = 2

// Play runs a scenario n times on this cluster, booting it when it is not of the right kind, and returns the worst.
func (c *Cluster) Play(ctx context.Context, s Scenario, suite string, n int, seed uint64, say func(string)) (Result, error) {
	res := Result{Name: s.Name, Control: s.Control, N: n, Bound: s.Bound.Seconds(), Pass: true, Evidence: []string{}}
	cfg := s.Config
	cfg.Suite = suite
	for i := range n {
		for try := 0; ; try++ {
			o, err := c.playOnce(ctx, s, cfg, seed, i+n*try, say)
			if err != nil {
				return res, fmt.Errorf("%s, run %d: %w", s.Name, i+1, err)
			}
			if o.void() && try < maxVoids {
				res.Voids++
				say(fmt.Sprintf("void: the machine stalled for %v at a decisive moment; once more", o.Stall))
				continue
			}
			c.judge(&res, s, i, o)
			break
		}
	}
	return res, nil
}

// judge folds one run into the result.
func (c *Cluster) judge(res *Result, s Scenario, i int, o Outcome) {
	problems := o.Problems
	if o.void() {
		problems = append(problems, fmt.Sprintf("proves nothing: the machine stalled for %v", o.Stall))
	}
	overlap, gap := o.Overlap.Seconds(), o.Gap.Seconds()
	switch {
	case s.Control && o.Overlap == 0:
		problems = append(problems, "a control must overlap, and this one did not")
	case !s.Control && o.Overlap > 0:
		problems = append(problems, fmt.Sprintf("OVERLAP: two copies ran for %.3f s", overlap))
	}
	if !s.Control && o.Gap > s.Bound {
		problems = append(problems, fmt.Sprintf("the service was gone for %.2f s, allowed are %.2f s", gap, s.Bound.Seconds()))
	}
	worst := i == 0 || (s.Control && overlap < res.Overlap) || (!s.Control && (overlap > res.Overlap || gap > res.Gap))
	switch {
	case i == 0:
		res.Overlap = overlap
	case s.Control:
		res.Overlap = min(res.Overlap, overlap)
	default:
		res.Overlap = max(res.Overlap, overlap)
	}
	res.Gap = max(res.Gap, gap)
	if len(problems) == 0 && res.Pass && worst {
		res.Evidence = evidence(i, o.Events)
	}
	if len(problems) > 0 {
		if res.Pass {
			res.Evidence = nil
		}
		res.Pass = false
		res.Evidence = append(res.Evidence, evidence(i, append(problems, o.Events...))...)
	}
}

func evidence(i int, lines []string) []string {
	var out []string
	for _, line := range lines {
		out = append(out, fmt.Sprintf("run %d: %s", i+1, line))
	}
	return out
}

// playOnce plays from a settled pair to a settled pair.
func (c *Cluster) playOnce(ctx context.Context, s Scenario, cfg Config, seed uint64, i int, say func(string)) (Outcome, error) {
	if err := c.Ensure(ctx, cfg); err != nil {
		return Outcome{}, err
	}
	if _, err := c.settled(ctx); err != nil {
		if err := c.Mend(ctx); err != nil {
			return Outcome{}, err
		}
	}
	holder, err := c.settled(ctx)
	if err != nil {
		return Outcome{}, err
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", s.Name, i)
	r := &Run{Cluster: c, Config: cfg, Holder: holder, Start: Now(), Random: rand.New(rand.NewPCG(seed, h.Sum64())), say: say}
	r.Event("%s runs the group", holder)
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { r.watch(watching); close(watched) }()
	if err := s.Run(ctx, r); err != nil {
		r.Fail("could not be played to its end: %v", err)
	}
	r.Event("mend everything")
	mendErr := c.Mend(ctx)
	if mendErr != nil {
		r.Fail("did not come back: %v", mendErr)
	}
	end := Now()
	// A moment more, so that what still beats at the end is seen to.
	err = pause(ctx, 3*serveGap)
	stop()
	<-watched
	if err != nil {
		return Outcome{}, err
	}
	o, err := r.measure(Interval{r.Start, end})
	if err != nil {
		return Outcome{}, err
	}
	r.Event("overlap %.3f s, gap %.2f s", o.Overlap.Seconds(), o.Gap.Seconds())
	o.Problems, o.Events = r.problems, r.events
	if len(o.Problems) > 0 || (!s.Control && (o.Overlap > 0 || o.Gap > s.Bound)) {
		dir := c.keepEvidence(ctx, s.Name, r.Start)
		o.Events = append(o.Events, "journals are kept in "+dir)
	}
	if mendErr != nil { // the next run gets a fresh pair
		err = c.update(func(s *State) { s.Ready = false })
	}
	return o, err
}

// measure computes overlap, gap and stall from the beats.
func (r *Run) measure(window Interval) (Outcome, error) {
	var o Outcome
	beats := map[string][]Beat{}
	for _, who := range append(Nodes(), observer) {
		b, err := r.Beats(who, window.From)
		if err != nil {
			return o, err
		}
		beats[who] = b
	}
	one, two := Alive(beats[Node1]), Alive(beats[Node2])
	served := Served(append(append([]Beat(nil), beats[Node1]...), beats[Node2]...))
	o.Overlap = Overlap(one, two)
	o.Gap = Gap(served, window)
	if o.Gap <= serveGap {
		o.Gap = 0
	}
	o.Stall = Stall(beats[observer], slices.Concat(one, two, served), window)
	return o, nil
}

// keepEvidence copies journals and consoles to a folder that outlives the cluster, and returns it.
func (c *Cluster) keepEvidence(ctx context.Context, name string, since Monotonic) string {
	dir := filepath.Join(c.Repo, ".cache", "lab", "evidence", time.Now().UTC().Format("20060102-150405-")+c.ID+"-"+name)
	save := func(file, text string, err error) {
		if err != nil {
			text += "\n" + err.Error() + "\n"
		}
		if err := writeFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			c.logf("keep evidence: %v", err)
		}
	}
	for _, host := range Hosts() {
		text, err := c.Journal(ctx, host, since)
		save(host+".journal", text, err)
		events, err := c.HostEvents(host, 0)
		save(host+".events", fmt.Sprintf("%+v\n", events), err)
		console, err := os.ReadFile(filepath.Join(c.hostDir(host), "console"))
		save(host+".console", strings.ToValidUTF8(string(console), "?"), err)
	}
	for _, node := range Nodes() {
		m, err := c.Membership(ctx, node)
		save(node+".crm_mon.xml", m.Raw, err)
		cause, err := c.Cause(node)
		save(node+".cause.json", cause, err)
		beats, err := c.Beats(node, since)
		save(node+".alive", fmt.Sprintf("%+v\n", Alive(beats)), err)
		_, status, err := c.Status(ctx, node)
		save(node+".status", status, err)
	}
	return dir
}
