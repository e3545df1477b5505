//go:build !amd64

package disk

import "errors"

// CanFail reports whether Options.Fail works on this architecture.
const CanFail = false

func skipCall(int) error { return errors.New("no call can be made to fail on this architecture") }

func setResult(int, int64) error {
	return errors.New("no call can be made to fail on this architecture")
}
