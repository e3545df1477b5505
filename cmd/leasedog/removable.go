package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// removable is one run of the verb.
type removable struct {
	runDir, cibFile, proc string
	tools                 []string
	guard                 interface {
		Status(context.Context) (guardapi.Status, error)
	}
}

// obstacle is why leasedog must not be removed, and what to do about it.
type obstacle struct{ what, do string }

func newRemovableCommand() *cobra.Command {
	r := &removable{proc: pcmk.DefaultProc}
	guardSocket := ""
	cmd := &cobra.Command{
		Use: "removable", Args: noArgs,
		Short: "say whether leasedog may be removed from this node (the packages ask before they go)",
		Long: "Fails, and says what to do first, while a lease is held or the guard armed here, or while something in Pacemaker's " +
			"configuration does not work without leasedog: its rules keep the guarded resources stopped on a node that has none. " +
			"An empty file " + removeAnyway + " (until the next boot) answers for the configuration, not for a lease.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := guardapi.NewClient(guardSocket)
			defer client.Close() // nothing was written to it
			r.guard = client
			ctx, cancel := context.WithTimeout(cmd.Context(), pacemakerTime)
			defer cancel()
			found := r.obstacles(ctx)
			for _, o := range found {
				fmt.Fprintf(cmd.ErrOrStderr(), "leasedog: %s\nhint: %s\n", o.what, o.do)
			}
			if len(found) > 0 {
				return &exitError{code: exitFailure, err: errors.New("leasedog must not be removed from this node now; nothing was changed")}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.runDir, "run-dir", runDir, "`folder` with the agent's records")
	f.StringVar(&r.cibFile, "cib", "/var/lib/pacemaker/cib/cib.xml", "Pacemaker's configuration on disk, a `file`")
	f.StringVar(&guardSocket, "guard-socket", guardapi.SocketPath, "the guard's `socket`")
	f.StringVar(&r.proc, "proc", r.proc, "where /proc is mounted, a `folder`")
	f.StringSliceVar(&r.tools, "tools", nil, "look for Pacemaker's tools in these `folders`")
	return cmd
}

// removeAnyway is how an administrator says that Pacemaker's configuration does not matter any more.
const removeAnyway = runDir + "/remove-anyway"

func (r *removable) obstacles(ctx context.Context) []obstacle {
	out := append(r.held(), r.armed(ctx)...)
	if _, err := os.Stat(filepath.Join(r.runDir, filepath.Base(removeAnyway))); err == nil {
		return out
	}
	return append(out, r.configured(ctx)...)
}

// held looks at what the agent has written down, whether it runs or not.
func (r *removable) held() []obstacle {
	var out []obstacle
	records, _ := filepath.Glob(filepath.Join(r.runDir, "lease-*.json")) // the pattern is ours
	for _, path := range records {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "lease-"), ".json")
		var record lease.RunRecord
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // given back just now
		}
		if err == nil {
			err = json.Unmarshal(text, &record)
		}
		switch {
		case err != nil:
			out = append(out, obstacle{fmt.Sprintf("what lease %s is here cannot be read: %v", name, err), `see "leasedog status"`})
		case record.State == lease.RunReleased:
		case record.State == lease.RunPaused:
			out = append(out, obstacle{fmt.Sprintf("lease %s is paused on this node", name), "leasedog resume " + name + ", then as for one that is held"})
		default:
			out = append(out, obstacle{fmt.Sprintf("lease %s is %s on this node", name, record.State),
				"systemctl disable --now leasedog gives it back (with its rules in place the resources stop here first), or: leasedog switchover " + name})
		}
	}
	return out
}

// armed asks the guard. One that cannot be asked may be armed.
func (r *removable) armed(ctx context.Context) []obstacle {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := r.guard.Status(ctx)
	switch {
	case errors.Is(err, guardapi.ErrNoGuard):
	case err != nil:
		return []obstacle{{fmt.Sprintf("whether the guard is armed is not known: %v", err), "systemctl status leasedog-guard"}}
	case len(st.Armed) > 0:
		return []obstacle{{fmt.Sprintf("the guard is armed for lease %s", st.Armed[0].Lease), `wait until "leasedog status" shows it disarmed`}}
	}
	return nil
}

// configured looks for what in Pacemaker's configuration needs leasedog.
func (r *removable) configured(ctx context.Context) []obstacle {
	cib, err := r.configuration(ctx)
	if err != nil {
		return []obstacle{{fmt.Sprintf("whether Pacemaker's configuration needs leasedog is not known: %v", err),
			"start Pacemaker, or take this node out of its cluster; touch " + removeAnyway + " if you know that nothing needs it"}}
	}
	if cib == nil {
		return nil
	}
	needs := cib.Dependents()
	if len(needs) == 0 {
		return nil
	}
	return []obstacle{{"Pacemaker's configuration needs leasedog: " + strings.Join(needs, ", "),
		"leasedog constraints all --remove takes the rules away: the resources then run without protection, on this cluster's both nodes; " +
			"a resource is deleted as it was made (pcs resource delete, crm configure delete)"}}
}

// configuration is Pacemaker's own copy, or, where no daemon of it runs, the one on its disk. Nil if there is none.
func (r *removable) configuration(ctx context.Context) (*pcmk.CIB, error) {
	daemons, err := pcmk.Daemons(r.proc)
	if err != nil {
		return nil, err
	}
	if len(daemons) == 0 {
		text, err := os.ReadFile(r.cibFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return pcmk.ParseCIB(text)
	}
	tools, err := pcmk.FindTools(r.tools...)
	if err != nil {
		return nil, err
	}
	return pcmk.New(command.Exec{}, tools, pcmk.Options{}).CIB(ctx)
}
