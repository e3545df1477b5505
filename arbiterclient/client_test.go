package arbiterclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/lease"
)

var renewal = lease.Renew{Party: lease.Party{Node: "node1", BootID: "b", Instance: lease.Instance{Start: 5, Nonce: 6}},
	Epoch: 7, Seq: 42, Seen: lease.Stamp{StoreID: "s", Generation: 3}}

func good() api.Answer {
	return api.Answer{Proto: api.Proto, Verdict: "ok", Epoch: 7, Seq: 42, HoldNS: int64(8 * time.Second),
		Stamp: api.Stamp{StoreID: "s", Generation: 4}, Waiters: []api.Waiter{{Node: "node2", Ready: true}}}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // only then does the server notice that the client has gone
		r.Body = io.NopCloser(bytes.NewReader(body))
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func answering(t *testing.T, a api.Answer) string {
	return serve(t, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(a) })
}

func ask(t *testing.T, urls ...string) (lease.Answer, error) {
	t.Helper()
	c, err := New(Options{URLs: urls, Insecure: true, Cluster: "erp", Node: "node1", RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return c.Ask(ctx, "pg", renewal)
}

// The arbiter's clock is passed on where it makes sense. Where it does not, the answer stands without it.
func TestAskClock(t *testing.T) {
	for name, c := range map[string]struct {
		clock *api.Clock
		want  lease.ClockReading
	}{
		"none":          {nil, lease.ClockReading{}},
		"good":          {&api.Clock{ID: "c", InNS: 5, OutNS: 7}, lease.ClockReading{ID: "c", In: 5, Out: 7}},
		"goes back":     {&api.Clock{ID: "c", InNS: 7, OutNS: 5}, lease.ClockReading{}},
		"before itself": {&api.Clock{ID: "c", InNS: -1, OutNS: 5}, lease.ClockReading{}},
		"long name":     {&api.Clock{ID: strings.Repeat("c", api.MaxClockID+1), OutNS: 5}, lease.ClockReading{}},
	} {
		w := good()
		w.Clock = c.clock
		if a, err := ask(t, answering(t, w)); err != nil || a.Verdict != lease.OK || a.Clock != c.want {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func TestAsk(t *testing.T) {
	var path string
	var got api.Renew
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.Method + " " + r.URL.Path
		_ = json.NewDecoder(r.Body).Decode(&got)
		_ = json.NewEncoder(w).Encode(good())
	})
	a, err := ask(t, url)
	if err != nil {
		t.Fatal(err)
	}
	if path != "POST /v1/clusters/erp/leases/pg/renew" || got.Instance != "5-0000000000000006" || got.Seq != 42 || got.Proto != api.Proto {
		t.Errorf("%s %+v", path, got)
	}
	if a.Verdict != lease.OK || a.Epoch != 7 || a.Hold != 8*time.Second || len(a.Waiters) != 1 || a.Stamp.Generation != 4 {
		t.Errorf("%+v", a)
	}
}

// What an administrator asks is passed on under this node's name, with no number of its own.
func TestAsk_PassedOn(t *testing.T) {
	for _, c := range []struct {
		body any
		want string
	}{
		{lease.Switchover{Epoch: 7, To: "node2"}, `POST /v1/clusters/erp/leases/pg/switchover {"proto":1,"node":"node1","epoch":7,"to":"node2"}`},
		{lease.ResumeAsk{}, `POST /v1/clusters/erp/leases/pg/resume-ask {"proto":1,"node":"node1"}`},
	} {
		var got string
		c1, err := New(Options{Insecure: true, Cluster: "erp", Node: "node1", RequestTimeout: time.Second, URLs: []string{
			serve(t, func(w http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.URL.Path + " " + string(text)
				a := good()
				a.Seq = 0
				_ = json.NewEncoder(w).Encode(a)
			})}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if a, err := c1.Ask(ctx, "pg", c.body); err != nil || a.Verdict != lease.OK || got != c.want {
			t.Errorf("%T: %+v %v\n got %s\nwant %s", c.body, a, err, got, c.want)
		}
	}
}

// A fencing goes to its target's path in the asker's own name.
func TestAsk_Fence(t *testing.T) {
	var got string
	c, err := New(Options{Insecure: true, Cluster: "erp", Node: "node1", RequestTimeout: time.Second, URLs: []string{
		serve(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			got = r.Method + " " + r.URL.Path + " " + string(text)
			a := good()
			a.Verdict, a.Boot, a.QuietNS, a.FreeInNS = "denied", "b9", -1, 5
			_ = json.NewEncoder(w).Encode(a)
		})}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := c.Ask(ctx, "", lease.Fence{Party: renewal.Party, Seq: 42, Target: "node2", Off: true, Guarded: true, Boot: "b8", Check: true})
	want := `POST /v1/clusters/erp/nodes/node2/fence {"proto":1,"node":"node1","boot_id":"b","instance":"5-0000000000000006","seq":42,` +
		`"seen":{"store_id":"","generation":0},"off":true,"guarded":true,"boot_mark":"b8","check":true}`
	if err != nil || a.Verdict != lease.Denied || a.Boot != "b9" || a.Quiet != -1 || a.FreeIn != 5 || got != want {
		t.Errorf("%+v %v\n got %s\nwant %s", a, err, got, want)
	}
}

// A report of alarms is cut to what the arbiter takes, and one address that answers is enough.
func TestTell(t *testing.T) {
	var path string
	var got api.Report
	c, err := New(Options{Insecure: true, Cluster: "erp", Version: "v9", ConfigDigest: "ab", RequestTimeout: time.Second, URLs: []string{
		serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }),
		serve(t, func(w http.ResponseWriter, r *http.Request) {
			path = r.URL.Path
			_ = json.NewDecoder(r.Body).Decode(&got)
			_ = json.NewEncoder(w).Encode(api.Answer{Proto: api.Proto, Verdict: "ok"}) // all that the arbiter says
		})}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	alarms := append([]string{"a\x1b[2Jb\xffc", strings.Repeat("ä", api.MaxAlarm)}, make([]string, api.MaxAlarms)...)
	if err := c.Tell(ctx, "node1", alarms); err != nil {
		t.Fatal(err)
	}
	if path != "/v1/clusters/erp/nodes/node1/report" || got.Node != "node1" || got.Instance != "" || got.Version != "v9" || got.ConfigDigest != "ab" ||
		len(got.Alarms) != api.MaxAlarms || got.Alarms[0] != "a [2Jb c" || got.Alarms[1] != strings.Repeat("ä", api.MaxAlarm/2) {
		t.Errorf("%s %+v", path, got)
	}
}

// What an acquire says of its node reaches the arbiter.
func TestAsk_AcquireSaysAll(t *testing.T) {
	var got string
	c, err := New(Options{Insecure: true, Cluster: "erp", Node: "node1", RequestTimeout: time.Second, URLs: []string{
		serve(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			got = string(text)
			_ = json.NewEncoder(w).Encode(good())
		})}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	body := lease.Acquire{Party: renewal.Party, Seq: 42, Ready: true, LastResort: true, Stopped: true}
	if _, err := c.Ask(ctx, "pg", body); err != nil || !strings.HasSuffix(got, `"ready":true,"last_resort":true,"stopped":true}`) {
		t.Errorf("%v, sent %s", err, got)
	}
}

// What is not one whole answer to this request is an error, and never an answer.
func TestAsk_NoAnswer(t *testing.T) {
	change := func(f func(*api.Answer)) string {
		a := good()
		f(&a)
		return answering(t, a)
	}
	raw := func(status int, body string) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
	text, _ := json.Marshal(good())
	for name, tc := range map[string]struct{ url, want string }{
		"not JSON":            {raw(200, "<html>welcome</html>"), "not JSON"},
		"empty":               {raw(200, ""), "not JSON"},
		"9 KiB":               {raw(200, string(text)+strings.Repeat(" ", 9<<10)), "larger than 8192"},
		"something after it":  {raw(200, string(text)+`{"verdict":"lost"}`), "after its end"},
		"wrong type":          {raw(200, `{"proto":1,"verdict":"ok","epoch":"7"}`), "not JSON of an arbiter"},
		"unknown verdict":     {change(func(a *api.Answer) { a.Verdict = "fine" }), "unknown verdict"},
		"no verdict":          {change(func(a *api.Answer) { a.Verdict = "" }), "unknown verdict"},
		"another request's":   {change(func(a *api.Answer) { a.Seq = 41 }), "does not belong"},
		"another protocol":    {change(func(a *api.Answer) { a.Proto = 2 }), "does not belong"},
		"negative hold":       {change(func(a *api.Answer) { a.HoldNS = -1 }), "does not belong"},
		"error with words":    {raw(403, `{"code":"forbidden","message":"not from there"}`), "status 403: not from there"},
		"error without words": {raw(500, "oops"), "status 500"},
		"redirect": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, answering(t, good()), http.StatusTemporaryRedirect)
		}), "status 307"},
		"redirect of another kind": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, answering(t, good()), http.StatusFound)
		}), "never redirects"},
		"nobody listens": {"http://" + closedPort(t), "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			if a, err := ask(t, tc.url); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("want an error with %q, got %+v %v", tc.want, a, err)
			}
		})
	}
}

func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The deadline is over everything: an arbiter that accepts and says nothing ends with it.
func TestAsk_DeadlineOverTheBody(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c, err := New(Options{URLs: []string{url}, Insecure: true, Cluster: "erp", RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Ask(ctx, "pg", renewal); err == nil {
		t.Fatal("an answer without a body")
	}
	if _, err := c.Ask(context.Background(), "pg", renewal); err == nil || !strings.Contains(err.Error(), "no deadline") {
		t.Fatalf("a request without a deadline was sent: %v", err)
	}
}

// Several addresses are asked side by side with the same seq; the first usable answer counts.
func TestAsk_SeveralAddresses(t *testing.T) {
	other := make(chan struct{}, 1)
	hang := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		other <- struct{}{}
		<-r.Context().Done()
	})
	working := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		<-other // the copy to the other address must be out as well, or this never answers
		_ = json.NewEncoder(w).Encode(good())
	})
	broken := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "no") })
	a, err := ask(t, broken, hang, working)
	if err != nil || a.Verdict != lease.OK {
		t.Fatalf("%+v %v", a, err)
	}
	if _, err := ask(t, broken, broken); err == nil || strings.Count(err.Error(), "not JSON") != 2 {
		t.Fatalf("every address's error is told: %v", err)
	}
}

// A connection that failed to answer is not used again: what comes late in it belongs to nobody.
func TestAsk_NewConnectionAfterAnError(t *testing.T) {
	var conns atomic.Int32
	first := true
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if first {
			first = false
			fmt.Fprint(w, "not an answer")
			return
		}
		_ = json.NewEncoder(w).Encode(good())
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c, err := New(Options{URLs: []string{s.URL}, Insecure: true, Cluster: "erp", RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Ask(ctx, "pg", renewal); err == nil {
		t.Fatal("no error")
	}
	for range 2 {
		if _, err := c.Ask(ctx, "pg", renewal); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 2 {
		t.Fatalf("%d connections, want a new one after the error and no more", n)
	}
}

// The environment's proxies do not decide where a lease is asked for. (net/http asks no proxy for an address of this
// machine, whatever the environment says: a server here would see no difference.)
func TestAsk_NoProxy(t *testing.T) {
	u := &url.URL{Scheme: "http", Host: "10.0.9.1:7443"}
	if newTarget(u, time.Second, nil).http.Load().Transport.(*http.Transport).Proxy != nil {
		t.Error("something else than the configuration may choose a proxy")
	}
}

// Data that the arbiter's host does not acknowledge ends the connection after T.
func TestDial_UserTimeout(t *testing.T) {
	u, err := url.Parse(answering(t, good()))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := newTarget(u, 750*time.Millisecond, nil).dial(t.Context(), u.Hostname(), u.Port(), 750*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	if err := errors.Join(raw.Control(func(fd uintptr) {
		got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
	}), err); err != nil || got != 750 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms (%v), want 750", got, err)
	}
}

// A name that does not resolve any more is dialled where it last was.
func TestAddresses_LastGood(t *testing.T) {
	tg := &target{}
	if got := tg.addresses(t.Context(), "localhost"); len(got) == 0 {
		t.Skip("localhost does not resolve on this machine")
	}
	if got := tg.addresses(t.Context(), "no-such-name.invalid"); len(got) == 0 {
		t.Fatal("the last good address was forgotten")
	}
}

func TestNew_Refuses(t *testing.T) {
	for _, u := range []string{"", "10.0.0.1:7443", "https://10.0.0.1:7443", "http://10.0.0.1"} {
		if _, err := New(Options{URLs: []string{u}, Insecure: true, Cluster: "erp", RequestTimeout: time.Second}); err == nil {
			t.Errorf("%q is accepted", u)
		}
	}
}

// An arbiter that finds that a node asks too often has said nothing about its lease, whatever else it writes: no answer, for
// nobody to wait for. The next request goes out in its own time.
func TestTooOftenIsNoAnswer(t *testing.T) {
	for _, verdict := range []lease.Verdict{"", lease.OK, lease.Lost, lease.Superseded} {
		var asked atomic.Int32
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			a := good()
			a.Verdict = string(verdict)
			var text any = a
			if verdict == "" {
				text = api.Error{Code: api.CodeTooMany, Message: "leasedog://erp/a asks too often: nothing was done"}
			}
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			_ = json.NewEncoder(w).Encode(text)
		})
		a, err := ask(t, url)
		if err == nil || !strings.Contains(err.Error(), "status 429") || a.Verdict != "" || a.Epoch != 0 {
			t.Errorf("%q: %+v %v", verdict, a, err)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%q: asked %d times", verdict, n)
		}
	}
}
