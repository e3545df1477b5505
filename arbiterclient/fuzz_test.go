package arbiterclient

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/leasedog/leasedog/lease"
)

// FuzzDecode: whatever answers at the arbiter's address, an answer that is used is whole and belongs to the request.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"proto":1,"verdict":"ok","epoch":7,"seq":1300,"hold_ns":8000000000,"stamp":{"store_id":"s1","generation":9},"elapsed_ns":5}`,
		`{"proto":1,"verdict":"granted","epoch":8,"seq":1300,"hold_ns":8000000000,"stamp":{"store_id":"s1","generation":10}}`,
		`{"proto":1,"verdict":"denied","epoch":7,"seq":1300,"stamp":{"store_id":"s1","generation":9},"reason":"held by node1",` +
			`"holder":"node1","free_in_ns":7000000000,"waiters":[{"node":"node2","ready":true}]}`,
		`{"proto":1,"verdict":"recovery","epoch":0,"seq":1300,"stamp":{"store_id":"s2","generation":11},"echo":{"store_id":"s1","generation":9}}`,
		`{"proto":1,"verdict":"lost","epoch":9,"seq":1300,"stamp":{"store_id":"s1","generation":12},"holder":"node2"}`,
		`{"proto":1,"verdict":"ok","seq":1300} x`, `null`, `[]`, ``,
	} {
		f.Add(200, []byte(text))
	}
	f.Add(503, []byte(`{"code":"unavailable","message":"the arbiter is stopping"}`))
	f.Add(502, []byte("<html>Bad Gateway</html>"))
	f.Fuzz(func(t *testing.T, status int, text []byte) {
		const seq = 1300
		a, err := decode(&http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(string(text)))}, seq)
		switch {
		case err != nil && (a.Verdict != "" || a.Epoch != 0):
			t.Errorf("an error with %+v", a)
		case err == nil && (status != http.StatusOK || a.Seq != seq || a.Verdict == "" || a.Hold < 0 || a.FreeIn < 0 || a.Elapsed < 0):
			t.Errorf("status %d is taken for %+v", status, a)
		}
		if err == nil {
			k := lease.Known{Stamp: lease.Stamp{StoreID: "s1", Generation: 9}}
			if k.Judge(k.Stamp, 7, a) == nil && a.Epoch > 7+lease.MaxEpochLead {
				t.Errorf("listens to %+v", a)
			}
		}
	})
}
