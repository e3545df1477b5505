package main

import (
	"context"
	"errors"
	"testing"

	"github.com/leasedog/leasedog/agent/control"
)

type answers []error

func (a *answers) Do(_ context.Context, r control.Request) (string, error) {
	if r.Verb != control.VerbHandover {
		return "", errors.New("another verb")
	}
	err := (*a)[0]
	*a = (*a)[1:]
	return "done", err
}

func TestWaitForHandover(t *testing.T) {
	busy := control.Refuse(control.CodeTryAgain, "", "still busy")
	gone := errors.New("nobody listens")
	for _, tc := range []struct {
		name string
		says answers
		err  error
	}{
		{"nothing to wait for", answers{nil}, nil},
		{"waits while it is busy", answers{busy, busy, nil}, nil},
		{"does not wait for an agent that is gone", answers{busy, gone}, gone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := waitForHandover(t.Context(), &tc.says, 0)
			if !errors.Is(err, tc.err) || len(tc.says) != 0 {
				t.Errorf("got %v with %d answers left", err, len(tc.says))
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := waitForHandover(ended, &answers{busy}, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after the end of its context", err)
	}
}
