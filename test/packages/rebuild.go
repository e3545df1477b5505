package packages

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// rebuild builds this machine's packages again, from a copy of the sources in another folder, with another umask, time zone and
// language, and without git. They must be the same bit for bit.
func (l *Looker) rebuild(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "leasedog-rebuild")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	script := `
version=$(git describe --tags --always --dirty) epoch=$(git log -1 --format=%ct)
git ls-files -z --cached --others --exclude-standard | cpio --null --pass-through --make-directories --quiet "$1"
cd "$1"
umask 077
find . -type f -exec touch -d '2001-02-03 04:05:06' {} +
TZ=Asia/Kathmandu LC_ALL=C.UTF-8 make packages ARCHES="$2" DIST="$1/again" VERSION="$version" SOURCE_DATE_EPOCH="$epoch"`
	if _, err := l.run(ctx, "sh", "-ec", script, "sh", dir, runtime.GOARCH); err != nil {
		return "", err
	}
	again, err := filepath.Glob(filepath.Join(dir, "again", "leasedog*"))
	if err != nil || len(again) != 4 {
		return "", fmt.Errorf("the second build made %v, not four packages (%w)", again, err)
	}
	var seen strings.Builder
	for _, path := range again {
		base := filepath.Base(path)
		first, err := sum(filepath.Join(l.Dist, base))
		if err != nil {
			return "", err
		}
		second, err := sum(path)
		if err != nil {
			return "", err
		}
		if first != second {
			return "", fmt.Errorf("%s: sha256 %s, and built again %s", base, first, second)
		}
		fmt.Fprintf(&seen, "\n    %s both times: %s", first, base)
	}
	return "the same bit for bit" + seen.String(), nil
}

func sum(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(text)), nil
}
