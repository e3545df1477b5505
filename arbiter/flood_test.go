package arbiter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/leasedog/leasedog/arbiter/store/bolt"
	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// flood is many clients that do one thing as fast as they can.
type flood struct {
	clients int
	attempt func(t target, i int) func() // one client; what it returns is called again and again
}

// target is what is flooded, and the credentials of the one who does it: node x of cluster web.
type target struct {
	addr string
	conf *tls.Config
}

func floods() map[string]flood {
	return map[string]flood{
		"acquires of one identity": {32, func(t target, i int) func() {
			s := &secure{addr: t.addr, t: &testing.T{}}
			c, n := &http.Client{Transport: &http.Transport{TLSClientConfig: t.conf}, Timeout: 20 * time.Second}, uint64(0)
			return func() {
				n++
				s.call(c, "https", "POST", fmt.Sprintf("/v1/clusters/web/leases/l%d/acquire", i), acquireAs("x", n))
			}
		}},
		"garbage instead of TLS": {64, func(t target, i int) func() {
			garbage := strings.Repeat("\x17\x03\x03garbage", 40)
			return func() { t.visit(i, garbage, true) }
		}},
		"handshakes without a certificate": {32, func(t target, i int) func() {
			c := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, DialContext: fromHost(i).DialContext}
			return func() {
				if resp, err := (&http.Client{Transport: c}).Get("https://" + t.addr + "/"); err == nil {
					_ = resp.Body.Close()
				}
			}
		}},
		"slow handshakes": {400, func(t target, i int) func() {
			return func() { t.visit(i, "\x16\x03\x01\x02", false) }
		}},
		"slow headers": {64, func(t target, _ int) func() {
			return func() {
				c, err := tls.Dial("tcp", t.addr, t.conf)
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "POST /v1/clusters/web/leases/l/acquire HTTP/1.1\r\nHost: x\r\nX-")
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		}},
	}
}

// fromHost dials from one of 20 addresses of this machine, none of which is the holder's.
func fromHost(i int) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%20+1))}, Timeout: time.Second}
}

// visit connects, says something, and waits until the arbiter has enough of it, or for a second.
func (t target) visit(i int, says string, ends bool) {
	c, err := fromHost(i).Dial("tcp", t.addr)
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, says)
	if ends {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, c)
}

// run floods until its standard input ends, and prints the number of attempts.
func (f flood) run(t target) int64 {
	var all sync.WaitGroup
	var over atomic.Bool
	var count atomic.Int64
	for i := range f.clients {
		attempt := f.attempt(t, i)
		all.Go(func() {
			for again := true; again; again = !over.Load() {
				attempt()
				count.Add(1)
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	over.Store(true)
	all.Wait()
	return count.Load()
}

const floodEnv = "LEASEDOG_TEST_FLOOD" // name of the flood, address, folder of the credentials

// TestFloodProcess is not a test but the process of a flood.
func TestFloodProcess(t *testing.T) {
	args := strings.Split(os.Getenv(floodEnv), "|")
	if len(args) != 3 {
		t.Skip("only for BenchmarkFlood")
	}
	live, err := pki.Open(credentialsIn(args[2]), pki.RoleNode, pki.NewClock(time.Now, boottime.Now))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("attempts", floods()[args[0]].run(target{args[1], live.Client()}))
}

// start begins a flood in a process of its own, at the lowest priority: in truth it is on other machines. stop ends it and
// says how many attempts there were.
func (s *secure) flood(name string) (stop func() int64) {
	files := s.files(s.folder, node("web", "x"), year, s.wall.now())
	cmd := exec.Command(os.Args[0], "-test.run=^TestFloodProcess$", "-test.count=1")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%s", floodEnv, name, s.addr, filepath.Dir(files.CA)))
	in, err1 := cmd.StdinPipe()
	var out strings.Builder
	cmd.Stdout = &out
	if err := errors.Join(err1, cmd.Start(), syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, 19)); err != nil {
		s.t.Fatal(err)
	}
	return func() (n int64) {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			s.t.Error(err, out.String())
		}
		_, _ = fmt.Sscanf(out.String(), "attempts %d", &n)
		if n == 0 {
			s.t.Error("there was no flood: " + out.String())
		}
		return n
	}
}

// BenchmarkFlood: renewals of a holder of another cluster, by the agent's own client and in the time of the profiles lan and fast (T is
// 750 and 150 ms), alone and beside each flood. An operation is one renewal, at its place in a pace of 20 ms; one that is not
// answered within T is missed. It fails on any that is missed. p99/quiet compares with the run without a flood.
func BenchmarkFlood(b *testing.B) {
	for _, profile := range []string{"lan", "fast"} {
		b.Run(profile, func(b *testing.B) { benchFloods(b, profile) })
	}
}

func benchFloods(b *testing.B, profile string) {
	quiet := time.Duration(0)
	names := []string{"quiet"}
	for name := range floods() {
		names = append(names, name)
	}
	slices.Sort(names[1:])
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			took, missed, attempts, refused := renewUnder(b, profile, name)
			slices.Sort(took)
			p99 := took[len(took)*99/100]
			if name == "quiet" {
				quiet = p99
			}
			b.ReportMetric(0, "ns/op") // the pace, which says nothing
			b.ReportMetric(float64(missed), "missed")
			b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
			if quiet > 0 {
				b.ReportMetric(float64(p99)/float64(quiet), "p99/quiet")
			}
			b.ReportMetric(float64(attempts)/b.Elapsed().Seconds(), "attempts/s")
			b.ReportMetric(float64(refused), "refused")
			if missed > 0 {
				b.Errorf("%d of %d renewals were missed", missed, len(took))
			}
		})
	}
}

func renewUnder(b *testing.B, profile, name string) (took []time.Duration, missed int, attempts int64, refused uint64) {
	store, err := bolt.Open(bolt.Options{Path: filepath.Join(b.TempDir(), "db"), MachineID: strings.Repeat("a", 32), History: 100, Wall: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	s := newSecureOn(b, nil, store)
	budget, err := lease.Profile(profile)
	if err != nil {
		b.Fatal(err)
	}
	for _, cluster := range []string{"erp", "web"} { // new clusters: an operator says that nobody holds anything
		s.call(s.as(node(cluster, "a")), "https", "POST", "/v1/clusters/"+cluster+"/leases/pg/acquire", acquireAs("a", 1))
		w := record0()
		s.server.ControlHandler().ServeHTTP(w, newRequest("POST", "/v1/clusters/"+cluster+"/recover"))
	}
	client, err := arbiterclient.New(arbiterclient.Options{URLs: []string{"https://" + s.addr}, Cluster: "erp", Node: "a",
		RequestTimeout: budget.RequestTimeout, TLS: s.credentials(s.folder, node("erp", "a"), year, s.wall.now())})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Reconnect)
	me := lease.Party{Node: "a", BootID: "b1", Instance: lease.Instance{Start: 5, Nonce: 5}}
	ask := func(d time.Duration, body any) (lease.Answer, error) {
		ctx, cancel := context.WithTimeout(b.Context(), d)
		defer cancel()
		return client.Ask(ctx, "pg", body)
	}
	stop := func() int64 { return 0 }
	if name != "quiet" {
		stop = s.flood(name)
	}
	seq := uint64(boottime.Now())
	got, err := ask(5*time.Second, lease.Acquire{Party: me, Seq: seq, Ready: true, Terms: budget.Terms, Hold: budget.Hold()})
	if err != nil || got.Verdict != lease.Granted {
		b.Fatal(got, err)
	}
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	b.ResetTimer()
	for range b.N {
		<-pace.C
		seq++
		began := time.Now()
		a, err := ask(budget.RequestTimeout, lease.Renew{Party: me, Epoch: got.Epoch, Seq: seq})
		took = append(took, time.Since(began))
		if err != nil || a.Verdict != lease.OK {
			missed++
			b.Logf("renewal %d: %q %v", seq, a.Verdict, err)
		}
	}
	b.StopTimer()
	attempts = stop()
	for _, n := range s.server.refusals.snapshot() {
		refused += n
	}
	return took, missed, attempts, refused
}
