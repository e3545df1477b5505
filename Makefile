# leasedog. "make" alone lists the targets.

SHELL   := /bin/sh
GO      ?= go
DESTDIR ?=
PREFIX  ?= /usr

sbindir    = $(DESTDIR)$(PREFIX)/sbin
unitdir    = $(DESTDIR)$(PREFIX)/lib/systemd/system
tmpfilesd  = $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
sysusersd  = $(DESTDIR)$(PREFIX)/lib/sysusers.d
ocfdir     = $(DESTDIR)$(PREFIX)/lib/ocf/resource.d/leasedog
alertdir   = $(DESTDIR)$(PREFIX)/share/leasedog/alerts
docdir     = $(DESTDIR)$(PREFIX)/share/doc/leasedog

# Works without git and without tags.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)
BINARIES = $(notdir $(wildcard cmd/*))

# Runs of each row of "make lab", the seed of everything random in it, and how many clusters play side by side.
N    ?= 1
SEED ?=
JOBS ?= 2

# Seeds of "make sim".
SEEDS ?= 20000

# How long "make fuzz" works, for all targets together.
FUZZTIME ?= 10m

.PHONY: help build unit check sim mutants install uninstall lab-build demo test lab bench fuzz model vm-smoke rules

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the programs into bin/
	@for b in $(BINARIES); do \
		echo "build bin/$$b $(VERSION)"; \
		CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/$$b ./cmd/$$b || exit 1; \
	done

unit: ## the unit tests; they need no root
	$(GO) test ./...

check: ## gofmt, go vet, staticcheck
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "gofmt would change: $$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools.mod staticcheck ./...

sim: ## SEEDS simulated worlds, each ten minutes of faults: make sim SEEDS=1000000
	$(GO) test ./sim -run '^TestSim$$' -count=1 -timeout 0 -v -sim.seeds=$(SEEDS)

fuzz: ## every parser and handler against random input: make fuzz FUZZTIME=10m
	$(GO) run ./test/fuzz -time $(FUZZTIME)

mutants: ## make known mistakes in lease/ one after the other: the simulator must catch each; writes docs/VERIFICATION.md
	$(GO) test -tags mutants ./sim -run '^TestMutation$$' -count=1 -timeout 0 -v -rewrite

model: ## the Promela models of the protocol, all verdicts checked (spin; installed when missing)
	$(GO) run ./test/model/cmd/model $(if $(WRITE),-write $(WRITE))

rules: ## take each rule of the protocol out of the code: a test must turn red
	$(GO) run ./test/rules/cmd/rules -go $(GO) $(if $(WRITE),-write $(WRITE))

lab-build: build
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/lab ./test/lab/cmd/lab
	@bin/lab deps

demo: lab-build ## boot a real pair and an arbiter, and watch a split being survived (root)
	bin/lab demo

test: check unit sim lab-build ## everything that a change must pass, the short lab matrix included (root)
	bin/lab run all --short --jobs $(JOBS)

lab: lab-build ## every scenario of the lab, N runs each: make lab N=3 (root)
	bin/lab run all -n $(N) --jobs $(JOBS) $(if $(SEED),--seed $(SEED))

bench: lab-build ## what holding a lease costs on a real pair, beside Pacemaker's own daemons (root)
	bin/lab bench

vm-smoke: ## one emulated machine that its own guard and kernel watchdog reset: 3 to 6 minutes, not part of "make test" (root)
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/vm ./test/vm/cmd/vm
	bin/vm smoke

# The one list of files: FOLDER MODE FILE. Packages and the lab install from it too.
define FILES
$(sbindir)    0755 bin/leasedog
$(sbindir)    0755 bin/leasedog-arbiter
$(unitdir)    0644 packaging/systemd/leasedog.service
$(unitdir)    0644 packaging/systemd/leasedog-guard.service
$(unitdir)    0644 packaging/systemd/leasedog-handover.service
$(unitdir)    0644 packaging/systemd/leasedog-arbiter.service
$(tmpfilesd)  0644 packaging/tmpfiles/leasedog.conf
$(tmpfilesd)  0644 packaging/tmpfiles/leasedog-arbiter.conf
$(sysusersd)  0644 packaging/sysusers/leasedog-arbiter.conf
$(ocfdir)     0755 packaging/ocf/lease
$(alertdir)   0755 packaging/alerts/alert_leasedog.sh
$(docdir)     0644 config/reference.toml
$(docdir)     0644 config/arbiter.reference.toml
endef
export FILES

install: ## install what "make build" made below DESTDIR
	@printf '%s\n' "$$FILES" | while read -r folder mode file; do \
		install -D -m "$$mode" "$$file" "$$folder/$$(basename "$$file")" || exit 1; \
	done

uninstall: ## remove what install put there; configuration and state stay
	@printf '%s\n' "$$FILES" | while read -r folder mode file; do \
		rm -f "$$folder/$$(basename "$$file")" || exit 1; \
	done
	@rmdir "$(docdir)" "$(ocfdir)" "$(alertdir)" 2>/dev/null || true
