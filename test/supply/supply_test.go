package supply

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const mit = `Permission is hereby granted, free of charge, to any person
obtaining a copy of this software … THE SOFTWARE IS PROVIDED "AS IS"`

// module makes a module's folder with files: name, text, name, text…
func module(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A module without a licence, or with one that nobody has allowed, is an error, whatever stands beside it.
func TestLicences(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  string // licences, or a part of the error
	}{
		"MIT":              {[]string{"LICENSE", mit}, "MIT"},
		"lower case":       {[]string{"licence.md", mit}, "MIT"},
		"two":              {[]string{"LICENSE-MIT", mit, "LICENSE-ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose"}, "ISC,MIT"},
		"none":             {[]string{"README.md", mit}, "no licence file"},
		"a notice only":    {[]string{"NOTICE", mit}, "no licence file"},
		"GPL":              {[]string{"COPYING", "GNU GENERAL PUBLIC LICENSE Version 3, 29 June 2007"}, "COPYING: its licence is none"},
		"GPL beside MIT":   {[]string{"LICENSE", mit, "LICENSE.GPL", "GNU GENERAL PUBLIC LICENSE"}, "LICENSE.GPL: its licence is none"},
		"half of it":       {[]string{"LICENSE", mit[:100]}, "its licence is none"},
		"empty":            {[]string{"LICENSE", ""}, "has 0 bytes"},
		"source of a name": {[]string{"license.go", "package x"}, "no licence file"},
	} {
		n, err := NoticeOf(module(t, c.files...))
		got := strings.Join(n.Licences, ",")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) || err == nil && got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	n, err := NoticeOf(module(t, "LICENSE", mit, "NOTICE", "made by somebody"))
	if err != nil || !strings.Contains(n.Text, "made by somebody") || !strings.Contains(n.Text, "free of charge") {
		t.Errorf("%q %v", n.Text, err)
	}
	goroot, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("go is not here: ", err)
	}
	if n, err := NoticeOf(strings.TrimSpace(string(goroot))); err != nil || n.Licences[0] != "BSD-3-Clause" {
		t.Errorf("of Go itself: %+v %v", n.Licences, err)
	}
}

func info(deps ...*debug.Module) *debug.BuildInfo {
	return &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}, Deps: deps}
}

// Every module that is linked stands in the bill and in the text; what cannot be checked is an error.
func TestBillOfMaterials(t *testing.T) {
	dir := module(t, "LICENSE", mit)
	source := func(string, string) (string, error) { return dir, nil }
	b := &debug.Module{Path: "example.org/b", Version: "v1.0.0", Sum: "h1:b="}
	a := &debug.Module{Path: "example.org/a", Version: "v2.0.0", Sum: "h1:a="}
	p, err := describe("/x/leasedog", info(b, a), source)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Bill(p)
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BomFormat  string
		Components []struct {
			Purl       string
			Licenses   []struct{ License struct{ ID string } }
			Properties []struct{ Value string }
		}
		Metadata struct {
			Component struct{ Name, Version string }
		}
	}
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, c := range bill.Components {
		got += c.Purl + " " + c.Licenses[0].License.ID + " "
		for _, x := range c.Properties {
			got += x.Value + " "
		}
	}
	want := "pkg:golang/std@go1.26.8 MIT pkg:golang/example.org/a@v2.0.0 MIT h1:a= pkg:golang/example.org/b@v1.0.0 MIT h1:b= "
	if got != want || bill.BomFormat != "CycloneDX" || bill.Metadata.Component.Name != "leasedog" || bill.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("%s\nwant %s\nin %s", got, want, text)
	}
	if err := schema(t).Validate(decoded(t, text)); err != nil {
		t.Errorf("%v\nin %s", err, text)
	}
	all := Licences([]Program{p, p})
	for _, want := range []string{"  example.org/a v2.0.0: MIT\n", "  std go1.26.8: MIT\n"} {
		if strings.Count(all, want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, all)
		}
	}
	for name, c := range map[string]struct {
		dep    *debug.Module
		source func(string, string) (string, error)
	}{
		"replaced":        {&debug.Module{Path: "x", Version: "v1", Sum: "h1:x=", Replace: a}, source},
		"no checksum":     {&debug.Module{Path: "x", Version: "v1"}, source},
		"no source":       {a, func(string, string) (string, error) { return "", errors.New("not here") }},
		"without licence": {a, func(string, string) (string, error) { return t.TempDir(), nil }},
	} {
		if _, err := describe("x", info(c.dep), c.source); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// schema is that of CycloneDX 1.6, as the module has it that writes our bills.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	const base = "http://cyclonedx.org/schema/"
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for name, file := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(base+name, decoded(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile(base + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A real program: the one that writes the bills.
func TestBillOfAProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "supply")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/supply").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p, err := Read(program, func(path, version string) (string, error) {
		args := []string{"list", "-m", "-f", "{{.Dir}}", path + "@" + version}
		if path == "std" {
			args = []string{"env", "GOROOT"}
		}
		dir, err := exec.CommandContext(t.Context(), "go", args...).Output()
		return strings.TrimSpace(string(dir)), err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := Bill(p)
	if err != nil || len(p.Modules) < 2 {
		t.Fatalf("%d modules, %v", len(p.Modules), err)
	}
	if err := schema(t).Validate(decoded(t, text)); err != nil {
		t.Errorf("%v\nin %s", err, text)
	}
}

// The schema finds what a bill could have wrong: a check that takes anything would prove nothing.
func TestSchemaRefuses(t *testing.T) {
	source := func(string, string) (string, error) { return module(t, "LICENSE", mit), nil }
	p, err := describe("/x/leasedog", info(&debug.Module{Path: "example.org/a", Version: "v2.0.0", Sum: "h1:a="}), source)
	if err != nil {
		t.Fatal(err)
	}
	good, err := Bill(p)
	if err != nil {
		t.Fatal(err)
	}
	s := schema(t)
	if err := s.Validate(decoded(t, good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`"CycloneDX"`, `"Cyclone"`}, {`"type": "library"`, `"type": "module"`}, {`"name": "example.org/a",`, ``},
		{`"id": "MIT"`, `"id": "mit licence"`}, {`"version": 1`, `"version": 0`}, {`"components"`, `"parts"`},
		{`"ref": "pkg`, `"reference": "pkg`},
	} {
		bad := strings.Replace(string(good), c[0], c[1], 1)
		if bad == string(good) {
			t.Errorf("%s is not there:\n%s", c[0], good)
		}
		if s.Validate(decoded(t, []byte(bad))) == nil {
			t.Errorf("%s instead of %s is taken", c[1], c[0])
		}
	}
}

// What only tools need is in tools.mod, and nothing of it in go.mod.
func TestToolsStayOutOfTheProgram(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	program, tools := read("go.mod"), read("tools.mod")
	if strings.Contains(program, "\ntool ") || strings.Contains(program, "\nreplace ") {
		t.Error("go.mod has a tool, or replaces something")
	}
	list := regexp.MustCompile(`(?m)^(?:tool |\t)([a-z0-9.]+/\S+/cmd/\S+)$`).FindAllStringSubmatch(tools, -1)
	if len(list) < 2 {
		t.Fatalf("tools.mod has %d tools", len(list))
	}
	for _, m := range list {
		owner, _, _ := strings.Cut(m[1], "/cmd/")
		if strings.Contains(program, owner+" ") {
			t.Errorf("go.mod requires %s, which only %s needs", owner, m[1])
		}
	}
}
