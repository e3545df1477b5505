package recorded

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/lease"
)

var (
	record = flag.String("record", "", "record this release (MAJOR.MINOR) anew; then read the diff")
	again  = flag.Bool("again", false, "with -record: although it is recorded already")
)

// spoken is what went over the wire last.
type spoken struct {
	request *http.Request
	body    []byte
	status  int
	says    http.Header
	answer  []byte
}

// listen puts itself between a client and a handler.
func listen(t *testing.T, to http.Handler, last *spoken) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		to.ServeHTTP(rec, r)
		*last = spoken{r, body, rec.Code, rec.Header().Clone(), rec.Body.Bytes()}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func client(t *testing.T, url, node string) *arbiterclient.Client {
	t.Helper()
	c, err := arbiterclient.New(arbiterclient.Options{URLs: []string{url}, Insecure: true, Cluster: cluster, Node: node,
		RequestTimeout: time.Minute, Version: "v0.1.0", ConfigDigest: "sha256:1234"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// speak has today's client carry out a step, and returns what it makes of the answer; nil if it has no opinion.
func speak(t *testing.T, url string, s step) (a *lease.Answer, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	switch {
	case s.get != "":
		method := http.MethodGet
		if strings.HasSuffix(s.get, "/steal") {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(ctx, method, url+s.get, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return nil, resp.Body.Close()
	case s.tell != nil:
		return nil, client(t, url, s.node).Tell(ctx, s.node, s.tell)
	}
	answer, err := client(t, url, s.node).Ask(ctx, s.lease, s.ask)
	return &answer, err
}

// TestRecord writes a recording, and only when it is told to. Without being told it looks whether the story can still be
// played, and whether the newest recording was made of it.
func TestRecord(t *testing.T) {
	w := newWorld(t)
	w.start()
	var last spoken
	url := listen(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*w.handler.Load()).ServeHTTP(rw, r) }), &last)
	var tapes []tape
	for _, s := range story() {
		if s.do != "" {
			w.do(s.do)
			tapes = append(tapes, tape{Do: s.do})
			continue
		}
		a, err := speak(t, url, s)
		x := tape{Name: s.name, Method: last.request.Method, Path: last.request.URL.RequestURI(), Headers: heads(last.request.Header),
			Request: bytes.TrimSpace(last.body), Status: last.status, Says: heads(last.says), Mistaken: err != nil}
		x.Answer, _ = json.Marshal(level(generic(t, last.answer)))
		if a != nil && err == nil {
			x.Meaning = level(any(meaning(t, *a))).(map[string]any)
		}
		tapes = append(tapes, x)
	}
	if *record != "" {
		dir := filepath.Join("testdata", *record)
		if _, err := os.Stat(dir); err == nil && !*again {
			t.Fatalf("%s is recorded already: what a release said does not change (-again if it is not out yet)", *record)
		}
		writeFile(t, filepath.Join(dir, "traffic.json"), tapes)
		writeFile(t, filepath.Join(dir, "store.json"), w.kept)
	}
	all := releases(t)
	newest := all[len(all)-1]
	if got, want := names(tapes), names(newest.tapes); !slices.Equal(got, want) {
		t.Errorf("the story has %q, and the newest recording %q: record the next release (compare.go)", got, want)
	}
}

func names(list []tape) (out []string) {
	for _, x := range list {
		out = append(out, x.Name+x.Do)
	}
	return out
}

// heads are the headers that have a meaning to one of the two.
func heads(h http.Header) map[string]string {
	out := map[string]string{}
	for k := range h {
		if k != "Date" && k != "Content-Length" {
			out[k] = h.Get(k)
		}
	}
	return out
}

func plainly(text []byte) []byte { return text }

// An older agent with this arbiter: what it was answered then it is answered now, by the fields that it knows.
func TestAgentsOfOtherReleases(t *testing.T) {
	for _, r := range releases(t) {
		for name, change := range map[string]func([]byte) []byte{"as it was": plainly, "and fields of later": future(t)} {
			t.Run(r.name+" "+name, func(t *testing.T) {
				w := newWorld(t)
				w.start()
				w.play(r.tapes, change)
			})
		}
	}
}

// This arbiter on the store that an older one left, or a newer one: everything is as if it had written it itself.
func TestStoresOfOtherReleases(t *testing.T) {
	for _, r := range releases(t) {
		after := slices.IndexFunc(r.tapes, func(x tape) bool { return x.Do == "the arbiter restarts" })
		for name, change := range map[string]func([]byte) []byte{"as it was": plainly, "and fields of later": future(t)} {
			t.Run(r.name+" "+name, func(t *testing.T) {
				w := newWorld(t)
				w.load(r.store, change)
				w.start()
				w.play(r.tapes[after+1:], plainly)
			})
		}
	}
}

func future(t *testing.T) func([]byte) []byte {
	return func(text []byte) []byte {
		if len(text) == 0 || text[0] != '{' {
			return text
		}
		out, err := WithFuture(text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func (w *world) play(tapes []tape, change func([]byte) []byte) {
	w.t.Helper()
	for _, x := range tapes {
		if x.Do != "" {
			w.do(x.Do)
			continue
		}
		status, says, answer := w.send(x, change(x.Request))
		if status != x.Status {
			w.t.Errorf("%s: status %d, %d before: %s", x.Name, status, x.Status, answer)
			continue
		}
		for k, v := range x.Says {
			if says.Get(k) != v {
				w.t.Errorf("%s: header %s is %q, %q before", x.Name, k, says.Get(k), v)
			}
		}
		if d := differs(generic(w.t, x.Answer), generic(w.t, answer), "answer", ""); d != "" {
			w.t.Errorf("%s: %s", x.Name, d)
		}
	}
}

// This agent with an older arbiter: it sends every field that the arbiter knows with what it stood for, and understands
// every answer as that release's agent did.
func TestArbitersOfOtherReleases(t *testing.T) {
	for _, r := range releases(t) {
		for name, change := range map[string]func([]byte) []byte{"as it was": plainly, "and fields of later": future(t)} {
			t.Run(r.name+" "+name, func(t *testing.T) {
				steps := map[string]step{}
				for _, s := range story() {
					steps[s.name] = s
				}
				for _, x := range r.tapes {
					if x.Do != "" {
						continue
					}
					s, known := steps[x.Name]
					if !known {
						t.Fatalf("the story of today lacks %q: what a release said must be asked for ever", x.Name)
					}
					answered(t, s, x, change)
				}
			})
		}
	}
}

// answered has a client get a recorded answer.
func answered(t *testing.T, s step, x tape, change func([]byte) []byte) {
	t.Helper()
	var last spoken
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range x.Says {
			w.Header().Set(k, v)
		}
		w.WriteHeader(x.Status)
		_, _ = w.Write(change(x.Answer))
	}), &last)
	a, err := speak(t, url, s)
	if last.request == nil || last.request.Method != x.Method || last.request.URL.RequestURI() != x.Path {
		t.Fatalf("%s: asked with %+v, %s %s before", x.Name, last.request, x.Method, x.Path)
	}
	for k, v := range x.Headers {
		if got := last.request.Header.Get(k); k != "User-Agent" && got != v {
			t.Errorf("%s: header %s is %q, %q before", x.Name, k, got, v)
		}
	}
	if len(x.Request) > 0 {
		if d := differs(generic(t, x.Request), generic(t, last.body), "request", ""); d != "" {
			t.Errorf("%s: %s", x.Name, d)
		}
	}
	if (err != nil) != x.Mistaken {
		t.Errorf("%s: the client says %v; it took the answer for an error before: %v", x.Name, err, x.Mistaken)
	}
	if x.Meaning == nil || err != nil {
		return
	}
	text, err := json.Marshal(x.Meaning)
	if err != nil {
		t.Fatal(err)
	}
	if d := differs(generic(t, text), any(meaning(t, *a)), "meaning", ""); d != "" {
		t.Errorf("%s: %s", x.Name, d)
	}
}

// structsOf is what the bodies of a recorded exchange are decoded into.
func structsOf(x tape) (request, answer any) {
	verb := x.Path[strings.LastIndex(x.Path, "/")+1:]
	requests := map[string]any{api.VerbAcquire: &api.Acquire{}, api.VerbRenew: &api.Renew{}, api.VerbRelease: &api.Release{},
		api.VerbPause: &api.Pause{}, api.VerbResume: &api.Resume{}, api.VerbSwitchover: &api.Switchover{},
		api.VerbResumeAsk: &api.ResumeAsk{}, "report": &api.Report{}, "fence": &api.Fence{}}
	switch {
	case x.Status != http.StatusOK:
		return nil, &api.Error{}
	case strings.HasPrefix(x.Path, api.PathHistory):
		return nil, &api.History{}
	case x.Method == http.MethodGet:
		return nil, &api.Status{}
	}
	return requests[verb], &api.Answer{}
}

// Every field of every recording is one that the programs of today have, with the same name and type: one that is not
// understood any more would be ignored in silence.
func TestEveryRecordedFieldIsUnderstood(t *testing.T) {
	for _, r := range releases(t) {
		for _, x := range r.tapes {
			if x.Do != "" {
				continue
			}
			request, answer := structsOf(x)
			understood(t, r.name+" "+x.Name+": request", x.Request, request)
			understood(t, r.name+" "+x.Name+": answer", x.Answer, answer)
		}
		for name, keys := range r.store {
			for k, v := range keys {
				kind, _, _ := strings.Cut(k, "/")
				into, known := map[string]any{"cluster": &lease.ClusterRecord{}, "lease": &lease.Record{}, "node": &lease.NodeRecord{},
					"machine": new(string), "format": new(string)}[kind]
				if !known {
					t.Errorf("%s: the store has %s of cluster %q, which nobody reads", r.name, k, name)
					continue
				}
				understood(t, r.name+" store: "+k, v, into)
			}
		}
	}
}

func understood(t *testing.T, what string, text []byte, into any) {
	t.Helper()
	if len(text) == 0 && into == nil {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	back, err := json.Marshal(into)
	if err != nil {
		t.Fatal(err)
	}
	if d := differs(generic(t, text), generic(t, back), "", ""); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

// The newest recording has every request, verdict and field that there is: one that no story has is compatible with nothing.
func TestRecordingsAreWhole(t *testing.T) {
	all := releases(t)
	newest := all[len(all)-1]
	said, verdicts, asked := map[string]bool{}, map[string]bool{}, map[reflect.Type]bool{}
	for _, x := range newest.tapes {
		if x.Do != "" {
			continue
		}
		request, answer := structsOf(x)
		for text, v := range map[*json.RawMessage]any{&x.Request: request, &x.Answer: answer} {
			if v == nil {
				continue
			}
			if err := json.Unmarshal(*text, v); err != nil {
				t.Fatal(err)
			}
			asked[reflect.TypeOf(v).Elem()] = true
			collect(reflect.ValueOf(v), said)
		}
		if a, ok := answer.(*api.Answer); ok {
			verdicts[a.Verdict] = true
		}
	}
	for _, v := range []lease.Verdict{lease.OK, lease.Granted, lease.Adopted, lease.Denied, lease.Lost, lease.Superseded, lease.Unsafe,
		lease.Barred, lease.Recovery, lease.Unavailable, lease.Refused} {
		if !verdicts[string(v)] {
			t.Errorf("no answer of %s says %s", newest.name, v)
		}
	}
	// What plain HTTP has not, and what a story of one minute has not.
	absent := map[string]bool{"Error.detail": true, "Status.certificates": true, "NodeStatus.certificate": true, "Report.cause": true,
		"ClusterStatus.recovery": true, "ClusterStatus.write_error": true, "LeaseStatus.waiters": true, "LeaseStatus.move_to": true,
		"LeaseStatus.paused_for_ns": true, "LeaseStatus.alarm": true, "NodeStatus.twins": true}
	for typ := range asked {
		for _, f := range fields(typ, map[reflect.Type]bool{}) {
			if !said[f] && !absent[f] {
				t.Errorf("%s is in no exchange of %s", f, newest.name)
			}
			if said[f] && absent[f] {
				t.Errorf("%s is listed as absent, and is there", f)
			}
		}
	}
}

// fields are TYPE.FIELD of a struct and of those in it.
func fields(t reflect.Type, done map[reflect.Type]bool) (out []string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return fields(t.Elem(), done)
	case reflect.Struct:
	default:
		return nil
	}
	if done[t] || t.PkgPath() != reflect.TypeOf(api.Answer{}).PkgPath() {
		return nil
	}
	done[t] = true
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			out = append(out, t.Name()+"."+name)
		}
		if t.Name()+"."+f.Name != "Status.Certificates" && t.Name()+"."+f.Name != "NodeStatus.Certificate" {
			out = append(out, fields(f.Type, done)...)
		}
	}
	return out
}

// collect notes every field that says something.
func collect(v reflect.Value, said map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			collect(v.Elem(), said)
		}
	case reflect.Slice:
		for i := range v.Len() {
			collect(v.Index(i), said)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && !v.Field(i).IsZero() {
				said[v.Type().Name()+"."+name] = true
			}
			collect(v.Field(i), said)
		}
	}
}
