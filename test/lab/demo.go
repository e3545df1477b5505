package lab

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// An act is one part of the demo.
type act struct {
	title    string
	scenario Scenario
}

// demoActs picks the acts from the table; the heartbeat is cut for less long, since nothing happens.
func demoActs() (control act, acts []act, err error) {
	named := map[string]Scenario{}
	for _, s := range Scenarios() {
		named[s.Name] = s
	}
	short := named["heartbeat-cut"]
	short.Run = func(ctx context.Context, r *Run) error { return playHeartbeatCut(ctx, r, 12*time.Second) }
	named["heartbeat-cut"] = short
	take := func(title, name string) act {
		s, ok := named[name]
		if !ok {
			err = fmt.Errorf("demo: no scenario is called %q", name)
		}
		return act{title, s}
	}
	control = take("Pacemaker alone; the heartbeat is cut", "plain-pair")
	acts = []act{
		take("(a) leasedog; the heartbeat is cut", "heartbeat-cut"),
		take("(b) the holder is cut off from everything", "holder-isolated"),
		take("(c) the holder's stop hangs, and it is cut off", "stop-hangs"),
		take("(d) a planned switchover", "switchover"),
	}
	return control, acts, err
}

// Demo tells the story: what happens to a plain pair, and what leasedog makes of it. It boots two clusters side by
// side and removes both. True only when the control overlapped and nothing else did, every gap within its budget.
func (c *Cluster) Demo(ctx context.Context, out io.Writer) (ok bool, err error) {
	start := time.Now()
	control, acts, err := demoActs()
	if err != nil {
		return false, err
	}
	plain, err := Open(c.ID+"plain", nil)
	if err != nil {
		return false, err
	}
	narrate := &narrator{out: out, start: start}
	c.Log, plain.Log = narrate, narrate
	defer func() {
		// A signal ends the demo; its clusters go all the same.
		tidy := context.WithoutCancel(ctx)
		for _, cluster := range []*Cluster{plain, c} {
			if downErr := cluster.Down(tidy); downErr != nil && err == nil {
				err = downErr
			}
		}
	}()
	if err := bootDemo(ctx, plain, control.scenario.Config, c, acts[0].scenario.Config); err != nil {
		return false, err
	}
	results := []Result{}
	play := func(cluster *Cluster, a act) error {
		narrate.title(a.title)
		res, err := cluster.Play(ctx, a.scenario, "bookworm", 1, uint64(start.UnixNano()), narrate.line)
		results = append(results, res)
		return err
	}
	if err := play(plain, control); err != nil {
		return false, err
	}
	if err := plain.Down(ctx); err != nil {
		return false, err
	}
	narrate.title("A pair like it, with leasedog")
	if err := c.showStatus(ctx, narrate); err != nil {
		return false, err
	}
	for _, a := range acts {
		if err := play(c, a); err != nil {
			return false, err
		}
	}
	return demoTable(out, append([]act{control}, acts...), results, time.Since(start)), nil
}

// bootDemo boots both clusters at once.
func bootDemo(ctx context.Context, plain *Cluster, plainCfg Config, guarded *Cluster, guardedCfg Config) error {
	plainCfg.Suite, guardedCfg.Suite = "bookworm", "bookworm"
	if _, err := plain.Rootfs(ctx, "bookworm"); err != nil {
		return err
	}
	first := make(chan error, 1)
	go func() { first <- plain.Up(ctx, plainCfg) }()
	err := guarded.Up(ctx, guardedCfg)
	if plainErr := <-first; plainErr != nil {
		return plainErr
	}
	return err
}

// showStatus prints what an administrator would look at.
func (c *Cluster) showStatus(ctx context.Context, out io.Writer) error {
	for _, argv := range [][]string{{"leasedog", "status"}, {"crm_mon", "-1"}} {
		text, err := c.Exec(ctx, Node1, argv...)
		if err != nil && text == "" {
			return err
		}
		fmt.Fprintf(out, "node1# %s\n%s", strings.Join(argv, " "), text)
	}
	return nil
}

// demoTable prints the end and says whether all went as promised.
func demoTable(out io.Writer, acts []act, results []Result, took time.Duration) bool {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tboth ran\tservice gone\tallowed\t")
	ok := true
	for i, r := range results {
		allowed, verdict := fmt.Sprintf("%.2f s", r.Bound), "ok"
		if r.Control {
			allowed, verdict = "-", "a split brain, as expected"
		}
		if !r.Pass {
			ok, verdict = false, "FAILED"
		}
		fmt.Fprintf(w, "%s\t%.2f s\t%.2f s\t%s\t%s\n", acts[i].title, r.Overlap, r.Gap, allowed, verdict)
	}
	w.Flush()
	for _, r := range results {
		if !r.Pass {
			fmt.Fprintf(out, "%s:\n  %s\n", r.Name, strings.Join(r.Evidence, "\n  "))
		}
	}
	fmt.Fprintf(out, "\n%.0f s in all\n", took.Seconds())
	return ok
}

// narrator prints whole lines with the demo's seconds before them. It may be used from several goroutines.
type narrator struct {
	out   io.Writer
	start time.Time
	mu    sync.Mutex
}

func (n *narrator) Write(p []byte) (int, error) {
	for _, line := range strings.Split(strings.TrimRight(string(p), "\n"), "\n") {
		n.line(line)
	}
	return len(p), nil
}

func (n *narrator) line(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, "%6.1f  %s\n", time.Since(n.start).Seconds(), text)
}

func (n *narrator) title(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, "\n%6.1f  == %s\n", time.Since(n.start).Seconds(), text)
}
