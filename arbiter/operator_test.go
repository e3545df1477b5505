package arbiter

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/arbiter/store/bolt"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
)

// atSocket asks at the control socket.
func atSocket(s *Server, path string, body any) (int, api.Answer, string) {
	text, _ := json.Marshal(body)
	w := httptest.NewRecorder()
	s.ControlHandler().ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(string(text))))
	var a api.Answer
	_ = json.Unmarshal(w.Body.Bytes(), &a)
	return w.Code, a, strings.TrimSpace(w.Body.String())
}

// TestFreeReadsWhatHasArrivedFirst: an arbiter that stood still is told that the holder is off. The holder's renewal has
// arrived behind that word, and counts.
func TestFreeReadsWhatHasArrivedFirst(t *testing.T) {
	snap := lease.NewClusterSnapshot("s1")
	a := party("a")
	snap.Leases = []lease.Record{{Lease: "pg", Epoch: 1, State: lease.RecordPaused, Holder: a, Seq: 1, Hold: time.Second, LossAfter: time.Second}}
	g := lease.NewGrantor(lease.GrantorOptions{Cluster: "erp", MinHold: time.Second, MaxHold: time.Second, MaxPause: time.Hour,
		RetryWrite: time.Second, NewStoreID: func() string { return "s2" }}, snap, boottime.Now().Add(-time.Minute))
	log := logrus.New()
	log.SetOutput(io.Discard)
	c := newCluster("erp", g, &memory{}, log)
	answers := map[string]chan lease.Answer{"free": make(chan lease.Answer, 1), "renew": make(chan lease.Answer, 1)}
	c.events <- received{id: 1, answer: answers["free"], event: lease.OperatorFree{ID: 1, Lease: "pg", Node: "a"}}
	c.events <- received{id: 2, answer: answers["renew"], event: lease.Request{ID: 2, Lease: "pg",
		Body: lease.Renew{Party: a, Epoch: 1, Seq: 2}}}
	s := &Server{}
	s.wait.Go(func() { c.run(t.Context()) })
	t.Cleanup(s.wait.Wait)
	if got := <-answers["renew"]; got.Verdict != lease.OK || !got.Paused {
		t.Errorf("the renewal: %+v", got)
	}
	if got := <-answers["free"]; got.Verdict != lease.Refused || !strings.Contains(got.Reason, "it is not off") {
		t.Errorf("free: %+v", got)
	}
}

// TestWhatOperatorsDoIsInTheHistory: who reads it later sees who gave the lease away, and on whose word.
func TestWhatOperatorsDoIsInTheHistory(t *testing.T) {
	store, err := bolt.Open(bolt.Options{Path: filepath.Join(t.TempDir(), "a.db"), MachineID: "m1", History: 100, Wall: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	done := make(chan error, 1)
	a := party("a")
	store.Write("erp", lease.Change{Cluster: lease.NewClusterSnapshot("s1").Cluster,
		Leases: []lease.Record{{Lease: "off", Epoch: 7, State: lease.RecordHeld, Holder: lease.Party{Node: "b", BootID: "b", Instance: a.Instance},
			Seq: 1, Hold: time.Nanosecond}},
		Nodes: []lease.NodeRecord{{Node: "c", BootID: "b", BarredBoot: "b"}}}, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s, url := serveStore(t, store)
	for _, c := range []struct {
		verb string
		body any
	}{
		{"acquire", acquire("a", 1)}, {"renew", api.Renew{Who: who("a", 2), Epoch: 1}}, {"pause", api.Pause{Who: who("a", 3), Epoch: 1}},
		{"resume-ask", api.ResumeAsk{Proto: api.Proto}}, {"resume", api.Resume{Who: who("a", 4), Epoch: 1}},
	} {
		if status, got, text := post(url+leasePath+c.verb, c.body); status != 200 || got.Verdict != "ok" && got.Verdict != "granted" {
			t.Fatalf("%s: %d %s", c.verb, status, text)
		}
	}
	for _, c := range []struct {
		path string
		body any
		want string
	}{
		{"leases/pg/free", api.Free{HolderIsOff: "b"}, `its holder is a, not b`},
		{"leases/pg/free", api.Free{HolderIsOff: "a"}, "it is not off"},
		{"leases/off/free", api.Free{HolderIsOff: "b", Check: true}, `"verdict":"ok"`},
		{"leases/off/free", api.Free{HolderIsOff: "b"}, `"verdict":"ok"`},
		{"leases/off/free", api.Free{HolderIsOff: "b"}, "nobody holds this lease"},
		{"nodes/a/unbar", struct{}{}, "this node is not barred"},
		{"nodes/c/unbar", struct{}{}, `"verdict":"ok"`},
		{"leases/pg/resume-ask", struct{}{}, "the lease is not paused: a holds it"},
	} {
		if status, _, text := atSocket(s, "/v1/clusters/erp/"+c.path, c.body); status != 200 || !strings.Contains(text, c.want) {
			t.Errorf("%s %+v: %d %s, want %s", c.path, c.body, status, text, c.want)
		}
	}
	resp, err := http.Get(url + api.PathHistory + "?cluster=erp")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var h api.History
	if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range h.Transitions {
		got = append([]string{strings.TrimSpace(x.Lease + " " + x.What + " " + x.Node + ": " + x.Cause)}, got...)
	}
	want := []string{
		"pg granted a: the lease was free", "pg paused a: without an end", "pg resumed a: its holder ended the pause",
		"off freed b: an operator says that b is off; it was not heard since this arbiter started", "unbarred c: an operator asked for it",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("history:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
