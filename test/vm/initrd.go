package vm

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive writes a cpio archive in the format that the kernel unpacks ("newc", initramfs buffer format).
type archive struct {
	buf   bytes.Buffer
	inode int
}

const (
	cpioFolder = 0o040755
	cpioFile   = 0o100755
)

func (a *archive) add(name string, mode int, content []byte) {
	a.inode++
	fmt.Fprintf(&a.buf, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", a.inode, mode, 0, 0, 1, 0,
		len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.buf.WriteString(name + "\x00")
	a.pad()
	a.buf.Write(content)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

func (a *archive) end() []byte {
	a.add("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}

// initrd builds the initial RAM disk: this very program as /init, and drivers in the order in which they are loaded.
func initrd(program string, drivers []string) ([]byte, error) {
	var a archive
	for _, dir := range []string{"dev", "root", "modules"} {
		a.add(dir, cpioFolder, nil)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("make the initial RAM disk: %w", err)
	}
	a.add("init", cpioFile, text)
	for i, path := range drivers {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("make the initial RAM disk: %w", err)
		}
		a.add(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(path)), cpioFile, text)
	}
	return a.end(), nil
}

// drivers finds kernel modules by name.
type drivers map[string]string // name, with _ for -, to path

func findDrivers(root string) (drivers, error) {
	found := drivers{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ko") {
			found[strings.ReplaceAll(strings.TrimSuffix(d.Name(), ".ko"), "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for drivers: %w", err)
	}
	return found, nil
}

// closure returns the paths of the named drivers and of all that they need, in the order in which they can be loaded.
func (d drivers) closure(names ...string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	var visit func(string) error
	visit = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if seen[name] {
			return nil
		}
		seen[name] = true
		path, ok := d[name]
		if !ok {
			return fmt.Errorf("the kernel's package has no driver %s", name)
		}
		needs, err := moduleNeeds(path)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, path)
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleNeeds reads "depends=" of a module (what modinfo -F depends prints).
func moduleNeeds(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("read %s: it is no kernel module", path)
	}
	text, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return parseNeeds(text), nil
}

func parseNeeds(modinfo []byte) []string {
	for _, entry := range strings.Split(string(modinfo), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ",")
		}
	}
	return nil
}
