package agent

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/leasedog/leasedog/lease"
)

// kernelBootID is fresh for each boot (random(4)), and for each boot of an nspawn container.
const kernelBootID = "/proc/sys/kernel/random/boot_id"

// errSameBoot says that the boot id of a boot that is still going on was lost. A new one would be a proof of death.
var errSameBoot = errors.New("the boot id of this boot is lost while a guard runs: this node reports no new one, " +
	"since that would be a proof of its death; reboot it")

// bootIdentity is the kernel's boot id joined with a random part, which tells containers that share a kernel apart.
type bootIdentity struct {
	Kernel string `json:"kernel"`
	Random string `json:"random"`
}

func (b bootIdentity) String() string { return b.Kernel + "." + b.Random }

// bootID returns the id of this boot. It is made once, with O_EXCL, in /run, which a reboot empties; a copy in the
// state folder gives the same id back if the one in /run was deleted meanwhile.
func (a *Agent) bootID(guardRuns bool) (string, error) {
	raw, err := os.ReadFile(a.opt.KernelBootID)
	if err != nil {
		return "", fmt.Errorf("read the kernel's boot id: %w", err)
	}
	kernel := strings.TrimSpace(string(raw))
	run, kept := filepath.Join(a.opt.RunDir, "boot.json"), filepath.Join(a.opt.StateDir, "boot.json")
	var b bootIdentity
	switch err := readJSON(run, &b); {
	case err == nil && b.Kernel == kernel && b.Random != "":
		return b.String(), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	b = bootIdentity{}
	if err := readJSON(kept, &b); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	if b.Kernel != kernel || b.Random == "" {
		if guardRuns {
			return "", errSameBoot
		}
		var random [8]byte
		if _, err := rand.Read(random[:]); err != nil {
			return "", fmt.Errorf("make a boot id: %w", err)
		}
		b = bootIdentity{Kernel: kernel, Random: hex.EncodeToString(random[:])}
		if err := writeDurable(kept, b); err != nil {
			return "", fmt.Errorf("keep the boot id: %w", err)
		}
	}
	if err := writeJSON(run, b); err != nil {
		return "", fmt.Errorf("keep the boot id: %w", err)
	}
	return b.String(), nil
}

// newInstance names this start of the agent.
func newInstance(now lease.Instant) (lease.Instance, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return lease.Instance{}, fmt.Errorf("make an instance: %w", err)
	}
	return lease.Instance{Start: now, Nonce: binary.BigEndian.Uint64(random[:])}, nil
}
