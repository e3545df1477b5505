package lab

import (
	"slices"
	"testing"
)

// An installation that a host is made of must not be pruned.
func TestLowerFolders(t *testing.T) {
	got := lowerFolders("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n" +
		"40 35 0:50 / /lab/node1/root rw,relatime - overlay leasedog-lab rw,lowerdir=/lab/layer:/p/abc/upper:/root,upperdir=/u,workdir=/w\n\n")
	if want := []string{"/lab/layer", "/p/abc/upper", "/root"}; !slices.Equal(got, want) {
		t.Errorf("the overlay is made of %q, want %q", got, want)
	}
}
