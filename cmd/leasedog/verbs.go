package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
)

// confirm asks before something that stops or moves resources. Without a terminal it does not ask: it needs --yes.
func confirm(cmd *cobra.Command, yes bool, what string) error {
	if yes {
		return nil
	}
	nobody := &exitError{code: exitUsage, err: fmt.Errorf("%s: not confirmed, and there is no terminal to ask", what),
		hint: "add --yes to go on without asking, or --dry-run to see what would be done"}
	if !isTerminal(cmd.InOrStdin()) {
		return nobody
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\nContinue? [y/N] ", what)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && answer == "" {
		return nobody
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &exitError{code: exitFailure, err: errors.New("not confirmed, nothing was done")}
}

// isTerminal also takes /dev/null for one, which answers with the end of the file.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// act sends r to the agent and prints what it says that it does now.
func act(cmd *cobra.Command, o *options, r control.Request) error {
	message, err := control.NewClient(o.socketPath).Do(cmd.Context(), r)
	if err != nil {
		return err
	}
	if o.output == outputJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"message": message})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), message)
	return err
}

// find asks for the status and returns the lease of that name.
func find(ctx context.Context, o *options, name string) (control.Lease, error) {
	st, err := control.NewClient(o.socketPath).Status(ctx)
	if err != nil {
		return control.Lease{}, err
	}
	var names []string
	for _, l := range st.Leases {
		if l.Name == name {
			return l, nil
		}
		names = append(names, l.Name)
	}
	return control.Lease{}, &exitError{code: exitFailure, err: fmt.Errorf("there is no lease %q", name),
		hint: "the leases here are: " + strings.Join(names, ", ")}
}

// settle polls the status until done says so, with a line of progress whenever the state changes.
func settle(cmd *cobra.Command, o *options, name string, limit time.Duration, done func(control.Lease) bool) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	start, last := time.Now(), ""
	for {
		l, err := find(ctx, o, name)
		line := ""
		switch {
		case err == nil && done(l):
			fmt.Fprintf(cmd.ErrOrStderr(), "done after %.1fs: %s\n", time.Since(start).Seconds(), headline(l))
			return nil
		case err == nil:
			line = headline(l)
		default:
			line = err.Error() // an agent that restarts is no reason to stop waiting
		}
		if line != last {
			fmt.Fprintf(cmd.ErrOrStderr(), "%6.1fs  %s\n", time.Since(start).Seconds(), line)
			last = line
		}
		select {
		case <-ctx.Done():
			return &exitError{code: exitTryAgain, err: fmt.Errorf("lease %s: not done within %v (%s)", name, limit, last),
				hint: `it goes on in the background; "leasedog status" says what it waits for`}
		case <-tick.C:
		}
	}
}

// pollEvery is how often a waiting verb looks: each look costs the agent a millisecond.
const pollEvery = 250 * time.Millisecond

// defaultWait outlasts the slowest profile's hold and a long stop.
const defaultWait = 5 * time.Minute
