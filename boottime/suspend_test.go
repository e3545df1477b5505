package boottime

import (
	"testing"
	"time"
)

// A machine that runs this test is not suspended meanwhile.
func TestSuspended(t *testing.T) {
	first := Suspended()
	if grew := Suspended() - first; grew.Abs() > time.Second {
		t.Errorf("%v, then %v more", first, grew)
	}
}
