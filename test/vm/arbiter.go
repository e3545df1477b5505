package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
)

// Names in the arbiter's record.
const (
	clusterName = "vm"
	leaseName   = "app"
	peerName    = "node2"
)

// Arbiter is the real one, on the host: it outlives the machine.
type Arbiter struct {
	dir, program string
	port         int
	cmd          *exec.Cmd
	exit         chan struct{}
}

// freePort asks the kernel for a port of the loopback.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// startArbiter runs the installed program with an empty store.
func startArbiter(ctx context.Context, program, dir string, port int) (*Arbiter, error) {
	a := &Arbiter{dir: dir, program: program, port: port, exit: make(chan struct{})}
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("start the arbiter: %w", err)
	}
	text := fmt.Sprintf("listen = \"127.0.0.1:%d\"\nstore = %q\ncontrol = %q\ninsecure = true\nallow_insecure_from = [\"127.0.0.0/8\"]\n",
		port, filepath.Join(dir, "arbiter.db"), filepath.Join(dir, "arbiter.sock"))
	if err := writeFile(a.config(), []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("start the arbiter: %w", err)
	}
	defer log.Close()
	a.cmd = exec.Command(program, "serve", "--config", a.config())
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the arbiter: %w", err)
	}
	go func() { _ = a.cmd.Wait(); close(a.exit) }()
	for {
		_, err := a.Lease(ctx)
		if err == nil || errors.Is(err, errNoLease) {
			return a, nil
		}
		select {
		case <-a.exit:
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("start the arbiter: it ended: %s", tail(string(text)))
		case <-ctx.Done():
			a.Stop()
			return nil, fmt.Errorf("start the arbiter: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (a *Arbiter) config() string { return filepath.Join(a.dir, "arbiter.toml") }

// Stop ends it.
func (a *Arbiter) Stop() {
	_ = a.cmd.Process.Kill()
	<-a.exit
}

// errNoLease: nobody has asked for it yet.
var errNoLease = errors.New("the arbiter knows no such lease")

// ArbiterLease is what "leasedog-arbiter status -o json" says of one lease, as far as the rows read it.
type ArbiterLease struct {
	Lease  string `json:"lease"`
	State  string `json:"state"`
	Epoch  uint64 `json:"epoch"`
	Holder string `json:"holder"`
}

// Lease asks for the rows' lease.
func (a *Arbiter) Lease(ctx context.Context) (ArbiterLease, error) {
	out, err := run(ctx, 5*time.Second, a.dir, a.program, "status", "--config", a.config(), "-o", "json")
	if err != nil {
		return ArbiterLease{}, err
	}
	var status struct {
		Clusters []struct {
			Leases []ArbiterLease `json:"leases"`
		} `json:"clusters"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return ArbiterLease{}, fmt.Errorf("read the arbiter's status: %w", err)
	}
	for _, c := range status.Clusters {
		for _, l := range c.Leases {
			if l.Lease == leaseName {
				return l, nil
			}
		}
	}
	return ArbiterLease{}, errNoLease
}

// Peer is the cluster's other node as the arbiter sees it: the production client, asking whenever a row plays. When it is
// granted the lease it could start the resources, so that is when the machine must be silent.
type Peer struct {
	client *arbiterclient.Client
	self   lease.Party
	budget lease.Budget

	mu   sync.Mutex
	seq  uint64
	seen lease.Stamp
}

func newPeer(port int, b lease.Budget) (*Peer, error) {
	c, err := arbiterclient.New(arbiterclient.Options{URLs: []string{fmt.Sprintf("http://127.0.0.1:%d", port)},
		Insecure: true, Cluster: clusterName, Node: peerName, RequestTimeout: b.RequestTimeout})
	if err != nil {
		return nil, err
	}
	return &Peer{client: c, budget: b, self: lease.Party{Node: peerName, BootID: "peer-of-the-test",
		Instance: lease.Instance{Start: boottime.Now(), Nonce: 1}}}, nil
}

func (p *Peer) next() (uint64, lease.Stamp) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	return p.seq, p.seen
}

func (p *Peer) learn(a lease.Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = a.Stamp
}

// Introduce makes a new cluster's arbiter hear both nodes, without which it grants nothing.
func (p *Peer) Introduce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	seq, seen := p.next()
	a, err := p.client.Ask(ctx, leaseName, lease.Report{Party: p.self, Seq: seq, Seen: seen,
		Leases: []lease.LeaseReport{{Lease: leaseName}}})
	if err == nil {
		p.learn(a)
	}
	return err
}

// Grant asks until the lease is granted, gives it back at once, and returns when the grant came.
func (p *Peer) Grant(ctx context.Context) (time.Time, error) {
	for {
		a, err := p.acquire(ctx)
		at := time.Now()
		if err == nil && a.Verdict == lease.Granted {
			return at, p.release(context.WithoutCancel(ctx), a.Epoch)
		}
		if ctx.Err() != nil {
			return at, fmt.Errorf("the peer was not granted the lease: %w (%s)", ctx.Err(), a.Reason)
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func (p *Peer) acquire(ctx context.Context) (lease.Answer, error) {
	wait := p.budget.Wait()
	ctx, cancel := context.WithTimeout(ctx, wait+p.budget.RequestTimeout)
	defer cancel()
	seq, seen := p.next()
	a, err := p.client.Ask(ctx, leaseName, lease.Acquire{Party: p.self, Seq: seq, Seen: seen, Terms: p.budget.Terms,
		Hold: p.budget.Hold(), Wait: wait, Ready: true, Stopped: true})
	if err == nil {
		p.learn(a)
	}
	return a, err
}

func (p *Peer) release(ctx context.Context, epoch lease.Epoch) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	seq, seen := p.next()
	_, err := p.client.Ask(ctx, leaseName, lease.Release{Party: p.self, Epoch: epoch, Seq: seq, Seen: seen})
	if err != nil {
		return fmt.Errorf("the peer gives the lease back: %w", err)
	}
	return nil
}
