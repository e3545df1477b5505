package agent

import (
	"os"
	"strings"
	"testing"

	"github.com/leasedog/leasedog/lease"
)

// The journal's catalog explains every transition, and no other id.
func TestCatalog(t *testing.T) {
	text, err := os.ReadFile("../packaging/catalog/leasedog.catalog")
	if err != nil {
		t.Fatal(err)
	}
	phases := []lease.Phase{lease.Standby, lease.Acquiring, lease.Winning, lease.Held, lease.Leaving, lease.Losing, lease.Stopped,
		lease.Paused, lease.Resuming}
	for _, p := range phases {
		if !strings.Contains(string(text), "\n-- "+messageID(p)+"\nSubject: Lease @LEASEDOG_LEASE@: ") {
			t.Errorf("the catalog has no entry for phase %s", p)
		}
	}
	if got := strings.Count(string(text), "\n-- "); got != len(phases) {
		t.Errorf("the catalog has %d entries, there are %d phases", got, len(phases))
	}
}
