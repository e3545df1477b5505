package arbiterclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// Options of New.
type Options struct {
	URLs           []string  // https://HOST:PORT, one arbiter (or one arbiter's several addresses)
	TLS            *pki.Live // what this node presents and accepts; required unless Insecure
	Insecure       bool      // the addresses are http://, and nothing is proven to anybody
	Cluster        string
	Node           string
	RequestTimeout time.Duration // T: TCP_USER_TIMEOUT of every connection
	Version        string        // and ConfigDigest: what a Report says besides
	ConfigDigest   string
}

// Client asks the arbiter. Any number of goroutines may use it.
type Client struct {
	opt     Options
	targets []*target
}

// target is one address of the arbiter with connections of its own.
type target struct {
	base    string
	timeout time.Duration
	url     *url.URL
	http    atomic.Pointer[http.Client]

	mu   sync.Mutex
	last []netip.Addr // what the name resolved to when it last did
}

// maxIdle bounds the warm connections to one address: a long poll and a renewal for each of a few leases.
const maxIdle = 8

// New returns a client. It opens nothing.
func New(opt Options) (*Client, error) {
	if len(opt.URLs) == 0 || opt.Cluster == "" || opt.RequestTimeout <= 0 {
		return nil, errors.New("arbiter client: no address, no cluster or no request timeout")
	}
	scheme, conf := "https", (*tls.Config)(nil)
	switch {
	case opt.Insecure && opt.TLS != nil:
		return nil, errors.New("arbiter client: insecure, and with certificates: choose one")
	case opt.Insecure:
		scheme = "http"
	case opt.TLS == nil:
		return nil, errors.New("arbiter client: no certificates, and not insecure")
	default:
		conf = opt.TLS.Client()
	}
	c := &Client{opt: opt}
	for _, raw := range opt.URLs {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != scheme || u.Port() == "" {
			return nil, fmt.Errorf("arbiter client: address %q: want %s://HOST:PORT", raw, scheme)
		}
		c.targets = append(c.targets, newTarget(u, opt.RequestTimeout, conf))
	}
	return c, nil
}

// newTarget speaks TLS as conf says, or plain HTTP if it is nil: there is no way from one to the other.
func newTarget(u *url.URL, timeout time.Duration, conf *tls.Config) *target {
	t := &target{base: u.Scheme + "://" + u.Host, url: u, timeout: timeout}
	t.http.Store(t.client(conf))
	return t
}

// client returns a client with connections of its own.
func (t *target) client(conf *tls.Config) *http.Client {
	plainDial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		if conf != nil {
			return nil, errors.New("arbiter client: plain HTTP where TLS was asked for")
		}
		return t.dial(ctx, t.url.Hostname(), t.url.Port(), t.timeout)
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the arbiter never redirects: something else answers at this address")
		},
		Transport: &http.Transport{
			Proxy:       nil, // the environment must not decide where a lease is asked for
			DialContext: plainDial,
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return t.dialTLS(ctx, conf)
			},
			MaxIdleConnsPerHost: maxIdle,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
			ForceAttemptHTTP2:   false,
			Protocols:           onlyHTTP1(),
		},
	}
}

func (t *target) dialTLS(ctx context.Context, conf *tls.Config) (net.Conn, error) {
	if conf == nil {
		return nil, errors.New("arbiter client: TLS without certificates")
	}
	raw, err := t.dial(ctx, t.url.Hostname(), t.url.Port(), t.timeout)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS: %w", err), raw.Close())
	}
	return conn, nil
}

func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7), which package syscall does not name: data that is not acknowledged
// for so long ends the connection, instead of 15 minutes of retransmissions.
const tcpUserTimeout = 0x12

// dial connects to one of the addresses that the name stands for. A name that does not resolve now is dialled where
// it last was: a dead name server must not cost a lease.
func (t *target) dial(ctx context.Context, host, port string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		ctlErr := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(timeout.Milliseconds()))
		})
		return errors.Join(ctlErr, err)
	}}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	}
	addrs := t.addresses(ctx, host)
	var errs []error
	for _, a := range addrs {
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("%s does not resolve, and never did since this agent started", host)
	}
	return nil, errors.Join(errs...)
}

// addresses resolves in the background once something is known, so that a renewal never waits for a name server.
func (t *target) addresses(ctx context.Context, host string) []netip.Addr {
	lookup := func(ctx context.Context) []netip.Addr {
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil || len(found) == 0 {
			return nil
		}
		t.mu.Lock()
		t.last = found
		t.mu.Unlock()
		return found
	}
	t.mu.Lock()
	known := t.last
	t.mu.Unlock()
	if len(known) == 0 {
		return lookup(ctx)
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), resolveTime)
		defer cancel()
		lookup(ctx)
	}()
	return known
}

// resolveTime bounds a lookup that nobody waits for.
const resolveTime = 10 * time.Second

// Ask sends one request of package lease (Acquire, Renew, Release, Pause, Resume, Report, Switchover, ResumeAsk, Fence) about one
// lease and returns the first usable answer of any address. ctx must have a deadline; it bounds everything. An error means
// that nothing is known: the request may have been carried out.
func (c *Client) Ask(ctx context.Context, name string, body any) (lease.Answer, error) {
	if _, ok := ctx.Deadline(); !ok {
		return lease.Answer{}, errors.New("ask the arbiter: no deadline")
	}
	verb, wire, seq, err := c.encode(body)
	if err != nil {
		return lease.Answer{}, err
	}
	text, err := json.Marshal(wire)
	if err != nil {
		return lease.Answer{}, fmt.Errorf("ask the arbiter: %w", err)
	}
	path := api.PathLease + verb
	node := ""
	switch b := body.(type) {
	case lease.Report:
		path, node = api.PathReport, b.Node
	case lease.Fence:
		path, node = api.PathFence, b.Target
	}
	path = strings.NewReplacer("{cluster}", url.PathEscape(c.opt.Cluster), "{lease}", url.PathEscape(name),
		"{node}", url.PathEscape(node)).Replace(path)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		answer lease.Answer
		err    error
	}
	results := make(chan result, len(c.targets))
	for _, t := range c.targets {
		go func() {
			a, err := t.post(ctx, path, text, seq)
			results <- result{a, err}
		}()
	}
	var errs []error
	for range c.targets {
		r := <-results
		if r.err == nil {
			return r.answer, nil
		}
		errs = append(errs, r.err)
	}
	return lease.Answer{}, fmt.Errorf("%s: %w", verb, errors.Join(errs...))
}

// Tell sends a report that says nothing about leases: the version, the configuration and what an administrator must act on at
// a node, cut to what the arbiter takes. ctx must have a deadline. An error means that no address took it.
func (c *Client) Tell(ctx context.Context, node string, alarms []string) error {
	w := api.Report{Who: api.Who{Proto: api.Proto, Node: node}, Version: c.opt.Version, ConfigDigest: c.opt.ConfigDigest}
	for _, a := range alarms[:min(len(alarms), api.MaxAlarms)] {
		a = strings.Map(func(r rune) rune {
			if r == utf8.RuneError || !unicode.IsPrint(r) {
				return ' '
			}
			return r
		}, a)
		for len(a) > api.MaxAlarm {
			_, size := utf8.DecodeLastRuneInString(a)
			a = a[:len(a)-size]
		}
		w.Alarms = append(w.Alarms, a)
	}
	text, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("tell the arbiter: %w", err)
	}
	path := strings.NewReplacer("{cluster}", url.PathEscape(c.opt.Cluster), "{node}", url.PathEscape(node)).Replace(api.PathReport)
	var errs []error
	for _, t := range c.targets {
		err := t.exchange(ctx, http.MethodPost, path, text, func(resp *http.Response) error { return decodeInto(resp, &api.Answer{}) })
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("tell the arbiter: %w", errors.Join(errs...))
}

// post sends one copy of a lease's request.
func (t *target) post(ctx context.Context, path string, text []byte, seq uint64) (answer lease.Answer, err error) {
	err = t.exchange(ctx, http.MethodPost, path, text, func(resp *http.Response) (err error) {
		answer, err = decode(resp, seq)
		return err
	})
	return answer, err
}

// exchange sends one request. After any error the connection is not used again: what is late in it belongs to nobody.
func (t *target) exchange(ctx context.Context, method, path string, text []byte, read func(*http.Response) error) error {
	req, err := http.NewRequestWithContext(ctx, method, t.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.GetBody = nil // never sent again behind our back
	req.Header.Set("Content-Type", "application/json")
	client := t.http.Load()
	resp, err := client.Do(req)
	if err != nil {
		return plain(t.base, err)
	}
	err = read(resp)
	// A body that was not read to its end closes the connection; so must every answer that was no answer.
	_ = resp.Body.Close()
	if err != nil {
		client.CloseIdleConnections()
		return fmt.Errorf("%s: %w", t.base, err)
	}
	return nil
}

// plain takes the request line out of an error of net/http.
func plain(base string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer in time", base)
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert (crypto/tls)
		return fmt.Errorf("%s: the arbiter refuses this node's certificate (%w); its log says why", base, err)
	}
	return fmt.Errorf("%s: %w", base, err)
}

// decode reads an answer. Anything that is not one whole JSON answer to this request is an error.
func decode(resp *http.Response, seq uint64) (lease.Answer, error) {
	var w api.Answer
	if err := decodeInto(resp, &w); err != nil {
		return lease.Answer{}, err
	}
	return fromWire(w, seq)
}

// decodeInto reads one whole JSON document of an arbiter.
func decodeInto(resp *http.Response, v any) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, api.MaxBody+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(text) > api.MaxBody {
		return fmt.Errorf("the answer is larger than %d bytes: this is no arbiter", api.MaxBody)
	}
	if resp.StatusCode != http.StatusOK {
		var e api.Error
		if json.Unmarshal(text, &e) == nil && e.Message != "" {
			return fmt.Errorf("status %d: %s", resp.StatusCode, e.Message)
		}
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("the answer is not JSON of an arbiter: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("the answer has something after its end")
	}
	return nil
}

// fromWire checks an answer whole: one wrong field, and it is none.
func fromWire(w api.Answer, seq uint64) (lease.Answer, error) {
	a := lease.Answer{
		Verdict: lease.Verdict(w.Verdict), Epoch: lease.Epoch(w.Epoch), Seq: w.Seq, Hold: time.Duration(w.HoldNS),
		Stamp: lease.Stamp(w.Stamp), Reason: w.Reason, Holder: w.Holder, FreeIn: time.Duration(w.FreeInNS),
		MoveTo: w.MoveTo, ResumeAsk: w.ResumeAsk, Paused: w.Paused, BarredBoot: w.BarredBoot, Off: w.Off, Boot: w.Boot, Quiet: time.Duration(w.QuietNS),
		Elapsed: time.Duration(w.ElapsedNS),
	}
	switch a.Verdict {
	case lease.OK, lease.Granted, lease.Adopted, lease.Denied, lease.Lost, lease.Superseded, lease.Unsafe,
		lease.Barred, lease.Recovery, lease.Unavailable, lease.Refused:
	default:
		return lease.Answer{}, fmt.Errorf("the answer has the unknown verdict %q", w.Verdict)
	}
	if w.Proto != api.Proto || w.Seq != seq || w.HoldNS < 0 || w.FreeInNS < 0 || w.ElapsedNS < 0 {
		return lease.Answer{}, fmt.Errorf("the answer does not belong to this request (protocol %d, seq %d of %d)", w.Proto, w.Seq, seq)
	}
	// It is only looked at: one that makes no sense must not cost a renewal.
	if c := w.Clock; c != nil && len(c.ID) <= api.MaxClockID && 0 <= c.InNS && c.InNS <= c.OutNS {
		a.Clock = lease.ClockReading{ID: c.ID, In: time.Duration(c.InNS), Out: time.Duration(c.OutNS)}
	}
	if w.Echo != nil {
		echo := lease.Stamp(*w.Echo)
		a.Echo = &echo
	}
	for _, x := range w.Waiters {
		a.Waiters = append(a.Waiters, lease.Waiter(x))
	}
	return a, nil
}

// encode turns a request of package lease into its form on the wire.
func (c *Client) encode(body any) (verb string, wire any, seq uint64, err error) {
	switch b := body.(type) {
	case lease.Acquire:
		return api.VerbAcquire, api.Acquire{Who: who(b.Party, b.Seq, b.Seen), Claim: claim(b.Claim), SeenEpoch: uint64(b.SeenEpoch),
			Terms: terms(b.Terms), HoldNS: int64(b.Hold), WaitNS: int64(b.Wait), Ready: b.Ready, LastResort: b.LastResort,
			Stopped: b.Stopped}, b.Seq, nil
	case lease.Renew:
		return api.VerbRenew, api.Renew{Who: who(b.Party, b.Seq, b.Seen), Epoch: uint64(b.Epoch), Claim: claim(b.Claim)}, b.Seq, nil
	case lease.Release:
		return api.VerbRelease, api.Release{Who: who(b.Party, b.Seq, b.Seen), Epoch: uint64(b.Epoch)}, b.Seq, nil
	case lease.Pause:
		return api.VerbPause, api.Pause{Who: who(b.Party, b.Seq, b.Seen), Epoch: uint64(b.Epoch), ForNS: int64(b.For), Terms: terms(b.Terms)}, b.Seq, nil
	case lease.Resume:
		return api.VerbResume, api.Resume{Who: who(b.Party, b.Seq, b.Seen), Epoch: uint64(b.Epoch)}, b.Seq, nil
	case lease.Report:
		out := api.Report{Who: who(b.Party, b.Seq, b.Seen), Version: c.opt.Version, ConfigDigest: c.opt.ConfigDigest}
		for _, l := range b.Leases {
			out.Leases = append(out.Leases, api.LeaseReport{Lease: l.Lease, SeenEpoch: uint64(l.SeenEpoch)})
		}
		return "report", out, b.Seq, nil
	case lease.Fence:
		return "fence", api.Fence{Who: who(b.Party, b.Seq, b.Seen), Off: b.Off, Guarded: b.Guarded, Boot: b.Boot, Check: b.Check}, b.Seq, nil
	case lease.Switchover:
		return api.VerbSwitchover, api.Switchover{Proto: api.Proto, Node: c.opt.Node, Epoch: uint64(b.Epoch), To: b.To}, 0, nil
	case lease.ResumeAsk:
		return api.VerbResumeAsk, api.ResumeAsk{Proto: api.Proto, Node: c.opt.Node}, 0, nil
	}
	return "", nil, 0, fmt.Errorf("ask the arbiter: %T is no request", body)
}

func who(p lease.Party, seq uint64, seen lease.Stamp) api.Who {
	return api.Who{Proto: api.Proto, Node: p.Node, BootID: p.BootID, Instance: p.Instance.String(), Seq: seq, Seen: api.Stamp(seen)}
}

func claim(c *lease.Claim) *api.Claim {
	if c == nil {
		return nil
	}
	return &api.Claim{Epoch: uint64(c.Epoch), State: string(c.State), HoldNS: int64(c.Hold), PauseForNS: int64(c.PauseFor)}
}

func terms(t lease.Terms) api.Terms {
	return api.Terms{LossAfterNS: int64(t.LossAfter), StopBudgetNS: int64(t.StopBudget), TimerSlackNS: int64(t.TimerSlack),
		WatchdogNS: int64(t.Watchdog), QuantumNS: int64(t.Quantum), Chances: t.Chances, ResetLatencyNS: int64(t.ResetLatency),
		DriftPPM: t.DriftPPM}
}
