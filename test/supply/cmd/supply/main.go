// The command supply writes down what programs are made of: supply -out FOLDER -version VERSION PROGRAM…
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/leasedog/leasedog/test/supply"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "supply:", err)
		os.Exit(1)
	}
}

func run() error {
	out := flag.String("out", "bin", "`folder` to write to")
	version := flag.String("version", "", "of the programs, if they do not say it themselves")
	tool := flag.String("go", "go", "the go `command`")
	flag.Parse()
	if flag.NArg() == 0 {
		return errors.New("name the programs: make build")
	}
	var all []supply.Program
	for _, path := range flag.Args() {
		p, err := supply.Read(path, func(module, version string) (string, error) { return source(*tool, module, version) })
		if err != nil {
			return err
		}
		if *version != "" {
			p.Version = *version
		}
		bill, err := supply.Bill(p)
		if err == nil {
			err = write(filepath.Join(*out, p.Name+".cdx.json"), bill)
		}
		if err != nil {
			return err
		}
		all = append(all, p)
		fmt.Printf("%s: %d modules\n", p.Name, len(p.Modules))
	}
	return write(filepath.Join(*out, "THIRD_PARTY_LICENSES"), []byte(supply.Licences(all)))
}

func write(path string, text []byte) error {
	fmt.Println("write", path)
	return os.WriteFile(path, text, 0o644)
}

// source finds a module in Go's own store of modules.
func source(tool, module, version string) (string, error) {
	args := []string{"list", "-m", "-f", "{{.Dir}}", module + "@" + version}
	if module == "std" {
		args = []string{"env", "GOROOT"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	text, err := exec.CommandContext(ctx, tool, args...).Output()
	if err != nil {
		return "", fmt.Errorf("ask %s where its source is: %w", tool, err)
	}
	if dir := strings.TrimSpace(string(text)); dir != "" {
		return dir, nil
	}
	return "", errors.New("its source is not here: go mod download")
}
