// Command vm plays the rows of package vm: one emulated machine, a real guard, a real kernel watchdog. It needs root.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/test/vm"
)

func main() {
	if os.Args[0] == "/init" { // this program is the first one of the machine's initial RAM disk
		fmt.Println("vm: init:", vm.Init())
		select {}
	}
	os.Exit(run())
}

// errFailed means that the rows were played and the answer is no; everything was said already.
var errFailed = errors.New("failed")

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := rootCommand().ExecuteContext(ctx); {
	case err == nil:
		return 0
	case errors.Is(err, errFailed):
		return 1
	default:
		fmt.Fprintln(os.Stderr, "vm:", err)
		return 1
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{Use: "vm", Short: "Reset an emulated machine by its own guard and watchdog",
		SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(&cobra.Command{Use: "list", Short: "List the rows", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return list() }})
	root.AddCommand(&cobra.Command{Use: "smoke [ROW...]", Short: "Play the rows that are not extra, or the named ones, and judge them",
		RunE: func(cmd *cobra.Command, args []string) error { return smoke(cmd.Context(), args) }})
	root.AddCommand(insideCommands()...)
	return root
}

// insideCommands are what this program runs of itself inside of the machine.
func insideCommands() []*cobra.Command {
	var url, profile, mode string
	hold := &cobra.Command{Use: "hold", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return vm.Hold(cmd.Context(), url, profile, mode) }}
	hold.Flags().StringVar(&url, "arbiter", "", "address")
	hold.Flags().StringVar(&mode, "mode", "", "of the watchdog")
	hold.Flags().StringVar(&profile, "profile", "", "of the budget")
	return []*cobra.Command{hold,
		{Use: "commands", Hidden: true, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return vm.ServeCommands(cmd.Context()) }},
		{Use: "load DRIVER...", Hidden: true,
			RunE: func(_ *cobra.Command, args []string) error { return vm.LoadDrivers(args) }},
	}
}

func list() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range vm.Rows() {
		who := "small holder"
		if row.Agent {
			who = "agent and Pacemaker"
		}
		if row.Extra {
			who += " (extra)"
		}
		fmt.Fprintf(w, "%s\t%s, profile %s\t%s\n", row.Name, who, row.Profile, row.About)
	}
	return w.Flush()
}

func smoke(ctx context.Context, names []string) error {
	rows, err := vm.Select(names)
	if err != nil {
		return err
	}
	start := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	bench, err := vm.Open(ctx, say)
	if err != nil {
		return err
	}
	defer bench.Close()
	outcomes, err := bench.Play(ctx, rows)
	good := printTable(outcomes)
	fmt.Printf("%.0f s in all\n", time.Since(start).Seconds())
	if err != nil {
		return err
	}
	if !good {
		return errFailed
	}
	return nil
}

// printTable prints what was seen and reports whether all of it is good.
func printTable(outcomes []vm.Outcome) bool {
	good := true
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "row\tdevice\tevents seen\tended by\tafter s\tallowed s\tpeer granted s\tvoid\tverdict")
	for _, o := range outcomes {
		wrong := o.Wrong()
		verdict := "ok"
		if len(wrong) > 0 {
			good, verdict = false, "FAILED: "+strings.Join(wrong, "; ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", o.Row.Name, o.Row.Device, o.Seen(), o.By, o.Seconds(o.Reset),
			o.Row.Bounds(), o.Seconds(o.Granted), o.Voids, verdict)
	}
	w.Flush()
	for _, o := range outcomes {
		if o.Said != "" {
			fmt.Printf("%s said: %s\n", o.Row.Name, o.Said)
		}
	}
	return good
}
