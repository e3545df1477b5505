// Command lab runs real two-node clusters and breaks them; see package lab. It needs root.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/test/lab"
)

func main() { os.Exit(run()) }

// failed means that the command did its work and the answer is no; everything was said already.
var errFailed = errors.New("failed")

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := rootCommand().ExecuteContext(ctx)
	var code lab.ExitCode
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFailed):
		return 1
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	return 1
}

// options are the flags that most commands share.
type options struct{ name string }

func (o *options) open() (*lab.Cluster, error) { return lab.Open(o.name, os.Stderr) }

func rootCommand() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Run real two-node clusters on this machine and break them",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&o.name, "name", "lab", "name of the cluster; clusters of different names live side by side")
	root.AddCommand(benchCommand(&o), depsCommand(&o), upCommand(&o), downCommand(&o), execCommand(&o), logsCommand(&o))
	root.AddCommand(cutCommand(&o), healCommand(&o), freezeCommand(&o), thawCommand(&o), crashCommand(&o))
	root.AddCommand(canaryCommand(&o), listCommand(), runCommand(&o), matrixCommand(&o), rootsCommand(&o), demoCommand(&o))
	root.AddCommand(hiddenCommands(&o)...)
	return root
}

// hiddenCommands are what this program runs of itself: beside the containers and inside of them.
func hiddenCommands(o *options) []*cobra.Command {
	supervise := &cobra.Command{Use: "supervise HOST", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Supervise(cmd.Context(), args[0])
		}}
	observe := &cobra.Command{Use: "observe", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Observe(cmd.Context())
		}}
	var file string
	beat := &cobra.Command{Use: "beat", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return lab.WriteBeats(cmd.Context(), file) }}
	beat.Flags().StringVar(&file, "file", "", "where to write")
	var listen string
	lock := &cobra.Command{Use: "lock-service", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return lab.ServeLock(cmd.Context(), listen) }}
	lock.Flags().StringVar(&listen, "listen", ":8089", "address")
	var at, manners string
	ntp := &cobra.Command{Use: "ntp-server", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return lab.ServeNTP(cmd.Context(), at, manners) }}
	ntp.Flags().StringVar(&at, "listen", ":123", "address")
	ntp.Flags().StringVar(&manners, "manners", "", "file with what to do wrong")
	return []*cobra.Command{supervise, observe, beat, lock, ntp}
}
