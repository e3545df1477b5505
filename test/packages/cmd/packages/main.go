// Command packages looks at what "make packages" made; see package packages. It is to be run at the root of the project, as root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/leasedog/leasedog/test/lab"
	"github.com/leasedog/leasedog/test/packages"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dist := flag.String("dist", "dist", "folder with the packages")
	only := flag.String("run", "", "only checks whose name contains this")
	suite := flag.String("suite", "bookworm", "Debian release to install into")
	flag.Parse()
	l, err := look(ctx, *dist, *suite)
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		return 1
	}
	failed, played := 0, 0
	for _, c := range l.Checks() {
		if !strings.Contains(c.Name, *only) {
			continue
		}
		played++
		start := time.Now()
		text, err := c.Run(ctx)
		word := "ok  "
		if err != nil {
			failed++
			word, text = "FAIL", err.Error()
		}
		fmt.Printf("%s %-8s %5.1f s  %s\n", word, c.Name, time.Since(start).Seconds(), text)
	}
	if failed > 0 || played == 0 {
		return 1
	}
	return 0
}

// look prepares everything that the checks need.
func look(ctx context.Context, dist, suite string) (*packages.Looker, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("this needs root")
	}
	c, err := lab.Open("packages", os.Stderr)
	if err != nil {
		return nil, err
	}
	root, err := c.Rootfs(ctx, suite)
	if err != nil {
		return nil, err
	}
	dist, err = filepath.Abs(dist)
	if err != nil {
		return nil, err
	}
	l := &packages.Looker{Repo: c.Repo, Dist: dist, Root: root, Log: os.Stderr}
	return l, l.Deps(ctx)
}
