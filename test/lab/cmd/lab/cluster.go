package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/test/lab"
)

func depsCommand(o *options) *cobra.Command {
	return &cobra.Command{Use: "deps", Short: "Install the tools that the lab needs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Deps(cmd.Context())
		}}
}

func upCommand(o *options) *cobra.Command {
	cfg := lab.DefaultConfig()
	token := cfg.Token.Milliseconds()
	var plain bool
	cmd := &cobra.Command{Use: "up", Short: "Boot a fresh cluster and wait until it is settled", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			cfg.Token = time.Duration(token) * time.Millisecond
			if plain {
				cfg.Stack, cfg.Profile = lab.StackPlain, ""
			}
			return c.Up(cmd.Context(), cfg)
		}}
	cmd.Flags().StringVar(&cfg.Suite, "suite", cfg.Suite, "Debian release")
	cmd.Flags().Int64Var(&token, "token", token, "Corosync's token in milliseconds")
	cmd.Flags().StringVar(&cfg.Profile, "profile", cfg.Profile, "leasedog's profile")
	cmd.Flags().BoolVar(&plain, "plain", false, "Pacemaker alone, without leasedog")
	cmd.Flags().BoolVar(&cfg.Systemd, "systemd", false, "add a member of class systemd to the group")
	cmd.Flags().BoolVar(&cfg.Promotable, "promotable", false, "add a promotable clone")
	return cmd
}

func downCommand(o *options) *cobra.Command {
	return &cobra.Command{Use: "down", Short: "End the cluster and discard its disks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Down(cmd.Context())
		}}
}

func execCommand(o *options) *cobra.Command {
	return &cobra.Command{Use: "exec HOST -- COMMAND...", Short: "Run a command inside of node1, node2 or arbiter",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Attach(cmd.Context(), args[0], args[1:]...)
		}}
}

func logsCommand(o *options) *cobra.Command {
	var lines int
	cmd := &cobra.Command{Use: "logs [HOST [UNIT...]]", Short: "Show boots, resets and the journal of the hosts",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			hosts := lab.Hosts()
			if len(args) > 0 {
				hosts, args = args[:1], args[1:]
			}
			for _, host := range hosts {
				events, err := c.HostEvents(host, 0)
				if err != nil {
					return err
				}
				for _, e := range events {
					fmt.Printf("%s: %s %d %.2f s ago\n", host, e.What, e.Boot, lab.Now().Sub(e.At).Seconds())
				}
				argv := []string{"journalctl", "--no-pager", "-o", "short-precise", "-n", fmt.Sprint(lines)}
				for _, unit := range args {
					argv = append(argv, "-u", unit)
				}
				if err := c.Attach(cmd.Context(), host, argv...); err != nil {
					fmt.Fprintln(os.Stderr, "lab:", err)
				}
			}
			return nil
		}}
	cmd.Flags().IntVarP(&lines, "lines", "n", 50, "of the journal")
	return cmd
}

func cutCommand(o *options) *cobra.Command {
	way := lab.BothWays
	cmd := &cobra.Command{Use: "cut LINK|HOST", Short: "Break a link (heartbeat, node1-arbiter, node2-arbiter) or all links of a host",
		Args: cobra.ExactArgs(1), ValidArgs: lab.Links(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Cut(cmd.Context(), lab.Cut{Link: args[0], Way: way})
		}}
	cmd.Flags().StringVar(&way, "one-way", way, "in: packets towards the node are lost; out: packets from it")
	return cmd
}

func healCommand(o *options) *cobra.Command {
	return &cobra.Command{Use: "heal", Short: "Mend every link", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Heal(cmd.Context())
		}}
}

func freezeCommand(o *options) *cobra.Command {
	return &cobra.Command{Use: "freeze HOST PROCESS...",
		Short: "SIGSTOP processes: agent, guard, arbiter, pacemaker (all its daemons), or a program's name",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Freeze(args[0], args[1:]...)
		}}
}

func thawCommand(o *options) *cobra.Command {
	return &cobra.Command{Use: "thaw", Short: "Let everything frozen go on", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			return c.Thaw()
		}}
}

func crashCommand(o *options) *cobra.Command {
	var stay bool
	cmd := &cobra.Command{Use: "crash HOST", Short: "End a host at once; it boots again by itself", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			if err := c.StayDown(args[0], stay); err != nil {
				return err
			}
			return c.Crash(cmd.Context(), args[0])
		}}
	cmd.Flags().BoolVar(&stay, "stay-down", false, "do not boot again (a later crash or run without this flag lets it)")
	return cmd
}

func canaryCommand(o *options) *cobra.Command {
	var since time.Duration
	cmd := &cobra.Command{Use: "canary", Short: "Show when the canary lived, the overlap and the longest gap", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			now := lab.Now()
			from := now.Add(-since)
			alive := map[string][]lab.Interval{}
			var all []lab.Beat
			for _, node := range lab.Nodes() {
				beats, err := c.Beats(node, from)
				if err != nil {
					return err
				}
				all = append(all, beats...)
				alive[node] = lab.Alive(beats)
				for _, i := range alive[node] {
					fmt.Printf("%s  alive from %8.2f s ago to %8.2f s ago  (%.2f s)\n", node,
						now.Sub(i.From).Seconds(), now.Sub(i.To).Seconds(), i.Length().Seconds())
				}
			}
			fmt.Printf("overlap %.2f s\n", lab.Overlap(alive[lab.Node1], alive[lab.Node2]).Seconds())
			if len(all) > 0 {
				served := lab.Served(all)
				window := lab.Interval{From: served[0].From, To: served[len(served)-1].To}
				fmt.Printf("longest gap %.2f s\n", lab.Gap(served, window).Seconds())
			}
			return nil
		}}
	cmd.Flags().DurationVar(&since, "since", 10*time.Minute, "how far to look back")
	return cmd
}
