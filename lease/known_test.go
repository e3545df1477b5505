package lease

import "testing"

// A store that was lost twice: answers of both recoveries are under way, and the older one is read last. The node stays
// with the newer store, which its next request reaches; it never lists that one as dead, which would be for ever.
func TestKnown_CrossedRecoveries(t *testing.T) {
	none, s1, s2 := Stamp{}, Stamp{"s1", 2}, Stamp{"s2", 3}
	recovery := func(echo Stamp, id string) Answer {
		return Answer{Verdict: Recovery, Echo: &echo, Stamp: Stamp{id, 5}}
	}
	for _, c := range []struct {
		name string
		now  Stamp
		left Stamp
		a    Answer
		ok   bool
	}{
		{"asked with what is known now", s2, s2, recovery(s2, "s3"), true},
		{"asked with what was known before", s2, s1, recovery(s1, "s3"), false},
		{"the same, by the store that is known now", s2, s1, recovery(s1, "s2"), true},
		{"asked when nothing was known", s2, none, Answer{Verdict: Granted, Epoch: 1, Stamp: Stamp{"s3", 5}}, false},
		{"the same, by the store that is known now", s2, none, Answer{Verdict: Denied, Stamp: Stamp{"s2", 4}}, true},
	} {
		k := &Known{Stamp: c.now}
		if err := k.Judge(c.left, 0, c.a); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
