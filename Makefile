# leasedog. "make" alone lists the targets.

SHELL   := /bin/sh
GO      ?= go
DESTDIR ?=
PREFIX  ?= /usr

sbindir     = $(DESTDIR)$(PREFIX)/sbin
unitdir     = $(DESTDIR)$(PREFIX)/lib/systemd/system
catalogdir  = $(DESTDIR)$(PREFIX)/lib/systemd/catalog
tmpfilesd   = $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
sysusersd   = $(DESTDIR)$(PREFIX)/lib/sysusers.d
firewalldir = $(DESTDIR)$(PREFIX)/lib/firewalld/services
ocfdir      = $(DESTDIR)$(PREFIX)/lib/ocf/resource.d/leasedog
sharedir    = $(DESTDIR)$(PREFIX)/share
alertdir    = $(sharedir)/leasedog/alerts
nodedoc     = $(sharedir)/doc/leasedog
arbiterdoc  = $(sharedir)/doc/leasedog-arbiter
mandir      = $(sharedir)/man
etcdir      = $(DESTDIR)/etc

# Works without git and without tags.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)
BINARIES = $(notdir $(wildcard cmd/*))
BIN      = bin
# Manual pages, completions and licences, made from what is here.
MADE     = bin/made

# Packages are made for these, and put there. Everything in them has the commit's time.
ARCHES ?= amd64 arm64
DIST   ?= dist
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y go.mod)

# Runs of each row of "make lab", the seed of everything random in it, and how many clusters play side by side.
N    ?= 1
SEED ?=
JOBS ?= 2

# The rows of "make matrix", and the Debian releases if not all: make matrix ROWS="holder-isolated switchover" SUITES=bullseye,trixie
ROWS   ?= all
SUITES ?=

# Seeds of "make sim".
SEEDS ?= 20000

# How long "make fuzz" works, for all targets together.
FUZZTIME ?= 10m

.PHONY: help build programs made unit check sim mutants install uninstall packages debs rpms package files check-packages lab-build \
	demo test lab bench fuzz model vm-smoke rules supply-chain govulncheck

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: programs made ## build the programs into bin/, with manual pages and completions

programs:
	@for b in $(BINARIES); do \
		echo "build $(BIN)/$$b $(VERSION)"; \
		CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BIN)/$$b ./cmd/$$b || exit 1; \
	done

PAGES = $(patsubst packaging/man/%.md,$(MADE)/man/%.gz,$(wildcard packaging/man/*.md))

made: programs $(PAGES) $(MADE)/third-party-leasedog $(MADE)/third-party-leasedog-arbiter
	@for b in $(BINARIES); do for shell in bash:$$b zsh:_$$b fish:$$b.fish; do \
		file=$(MADE)/$${shell%:*}/$${shell#*:}; mkdir -p "$${file%/*}"; \
		$(BIN)/$$b completion "$${shell%:*}" >"$$file" || exit 1; \
	done; done

$(MADE)/man/%.gz: packaging/man/%.md tools.mod
	@mkdir -p $(@D)
	@$(GO) tool -modfile=tools.mod go-md2man -in $< -out $(@:.gz=)
	@gzip -9nf $(@:.gz=)

# What is linked in asks for its notice beside the program.
$(MADE)/third-party-%: go.mod
	@mkdir -p $(@D)
	@$(GO) list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/$* | sort -u >$@.list
	@while read -r path version dir; do \
		printf '%s %s\n\n' "$$path" "$$version"; cat "$$dir"/LICEN[SC]E* || exit 1; printf '\n'; \
	done <$@.list >$@.new
	@mv $@.new $@; rm $@.list

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

supply-chain: build ## check the modules; write each program's bill of materials and all licences to bin/
	$(GO) mod verify
	GOFLAGS=-modfile=tools.mod $(GO) mod verify
	$(GO) run ./test/supply/cmd/supply -go $(GO) -version '$(VERSION)' -out bin $(addprefix bin/,$(BINARIES))

# A hole is a failure. A database that cannot be reached is none, and is never taken for "none found".
govulncheck: ## known holes in what the programs call (skipped, with the reason, where the database is out of reach)
	@out=$$($(GO) tool -modfile=tools.mod govulncheck ./cmd/... 2>&1); rc=$$?; \
	case "$$rc $$out" in \
	1\ *"fetching vulnerabilities: "*) echo "SKIPPED govulncheck: $$out" ;; \
	*) echo "$$out"; exit $$rc ;; \
	esac

lab-build: build
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/lab ./test/lab/cmd/lab
	@bin/lab deps

demo: lab-build ## boot a real pair and an arbiter, and watch a split being survived (root)
	bin/lab demo

test: check unit sim lab-build ## everything that a change must pass, the short lab matrix included (root)
	bin/lab run all --short --jobs $(JOBS)

lab: lab-build ## every scenario of the lab, N runs each: make lab N=3 (root)
	bin/lab run all -n $(N) --jobs $(JOBS) $(if $(SEED),--seed $(SEED))

matrix: lab-build ## the rows of the lab on every supported release: make matrix ROWS=switchover SUITES=bullseye,trixie N=3 (root)
	@roots=$$(bin/lab roots $(if $(SUITES),--suite $(SUITES))) && test -n "$$roots" && \
	simulators=$$(printf '/usr/sbin/chroot %s /usr/sbin/crm_simulate;' $$roots) && \
	LEASEDOG_CRM_SIMULATE="$${simulators%;}" $(GO) test ./pcmk -run '^TestRuleTruthTable$$' -count=1
	bin/lab matrix $(ROWS) -n $(N) --jobs $(JOBS) $(if $(SUITES),--suite $(SUITES)) $(if $(SEED),--seed $(SEED))

bench: lab-build ## what holding a lease costs on a real pair, beside Pacemaker's own daemons (root)
	bin/lab bench

vm-smoke: ## one emulated machine that its own guard and kernel watchdog reset: 3 to 6 minutes, not part of "make test" (root)
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/vm ./test/vm/cmd/vm
	bin/vm smoke

# The one list of files: PACKAGE FOLDER MODE FILE. "make install", the packages, and by them the lab, install from it. With
# :deb or :rpm the file is in that format only; "make install" does as the rpm.
define FILES
leasedog              $(sbindir)    0755 $(BIN)/leasedog
leasedog              $(sbindir)    0755 packaging/fence/fence_leasedog
leasedog              $(unitdir)    0644 packaging/systemd/leasedog.service
leasedog              $(unitdir)    0644 packaging/systemd/leasedog-guard.service
leasedog              $(unitdir)    0644 packaging/systemd/leasedog-handover.service
leasedog              $(catalogdir) 0644 packaging/catalog/leasedog.catalog
leasedog              $(tmpfilesd)  0644 packaging/tmpfiles/leasedog.conf
leasedog              $(ocfdir)     0755 packaging/ocf/lease
leasedog              $(alertdir)   0755 packaging/alerts/alert_leasedog.sh
leasedog              $(etcdir)/leasedog             0644 packaging/etc/leasedog.toml
leasedog              $(etcdir)/needrestart/conf.d   0644 packaging/needrestart/leasedog.conf
leasedog              $(mandir)/man5 0644 $(MADE)/man/leasedog.toml.5.gz
leasedog              $(mandir)/man7 0644 $(MADE)/man/ocf_leasedog_lease.7.gz
leasedog              $(mandir)/man8 0644 $(MADE)/man/leasedog.8.gz
leasedog              $(mandir)/man8 0644 $(MADE)/man/fence_leasedog.8.gz
leasedog              $(sharedir)/bash-completion/completions 0644 $(MADE)/bash/leasedog
leasedog:deb          $(sharedir)/zsh/vendor-completions      0644 $(MADE)/zsh/_leasedog
leasedog:rpm          $(sharedir)/zsh/site-functions          0644 $(MADE)/zsh/_leasedog
leasedog              $(sharedir)/fish/vendor_completions.d   0644 $(MADE)/fish/leasedog.fish
leasedog              $(nodedoc)    0644 config/reference.toml
leasedog              $(nodedoc)/selinux 0644 packaging/selinux/leasedog.te
leasedog              $(nodedoc)/selinux 0644 packaging/selinux/leasedog.fc
leasedog              $(nodedoc)    0644 $(MADE)/third-party-leasedog
leasedog:deb          $(nodedoc)    0644 packaging/copyright
leasedog:deb          $(sharedir)/lintian/overrides 0644 packaging/lintian/leasedog
leasedog:rpm          $(sharedir)/licenses/leasedog 0644 LICENSE
leasedog-arbiter      $(sbindir)    0755 $(BIN)/leasedog-arbiter
leasedog-arbiter      $(unitdir)    0644 packaging/systemd/leasedog-arbiter.service
leasedog-arbiter      $(tmpfilesd)  0644 packaging/tmpfiles/leasedog-arbiter.conf
leasedog-arbiter      $(sysusersd)  0644 packaging/sysusers/leasedog-arbiter.conf
leasedog-arbiter      $(firewalldir) 0644 packaging/firewalld/leasedog-arbiter.xml
leasedog-arbiter      $(etcdir)/leasedog             0644 packaging/etc/arbiter.toml
leasedog-arbiter      $(mandir)/man8 0644 $(MADE)/man/leasedog-arbiter.8.gz
leasedog-arbiter      $(sharedir)/bash-completion/completions 0644 $(MADE)/bash/leasedog-arbiter
leasedog-arbiter:deb  $(sharedir)/zsh/vendor-completions      0644 $(MADE)/zsh/_leasedog-arbiter
leasedog-arbiter:rpm  $(sharedir)/zsh/site-functions          0644 $(MADE)/zsh/_leasedog-arbiter
leasedog-arbiter      $(sharedir)/fish/vendor_completions.d   0644 $(MADE)/fish/leasedog-arbiter.fish
leasedog-arbiter      $(arbiterdoc) 0644 config/arbiter.reference.toml
leasedog-arbiter      $(arbiterdoc) 0644 $(MADE)/third-party-leasedog-arbiter
leasedog-arbiter:deb  $(arbiterdoc) 0644 packaging/copyright
leasedog-arbiter:deb  $(sharedir)/lintian/overrides 0644 packaging/lintian/leasedog-arbiter
leasedog-arbiter:rpm  $(sharedir)/licenses/leasedog-arbiter 0644 LICENSE
endef
export FILES

install: ## install what "make build" made below DESTDIR; a configuration that is there stays
	@printf '%s\n' "$$FILES" | while read -r package folder mode file; do \
		to="$$folder/$$(basename "$$file")"; \
		case "$$package $$to" in *:deb\ *) continue ;; *" $(etcdir)/"*) test ! -e "$$to" || continue ;; esac; \
		install -D -m "$$mode" "$$file" "$$to" || exit 1; \
	done

uninstall: ## remove what install put there; configuration and state stay
	@printf '%s\n' "$$FILES" | while read -r package folder mode file; do \
		case "$$folder" in "$(etcdir)/"*) continue ;; esac; \
		rm -f "$$folder/$$(basename "$$file")" || exit 1; \
	done
	@rmdir "$(nodedoc)/selinux" "$(nodedoc)" "$(arbiterdoc)" "$(ocfdir)" "$(alertdir)" "$(sharedir)/leasedog" \
		"$(sharedir)/licenses/leasedog" "$(sharedir)/licenses/leasedog-arbiter" 2>/dev/null || true

packages: ## leasedog and leasedog-arbiter as deb and rpm into dist/, bit for bit the same from the same commit
	@rm -f $(DIST)/leasedog*.deb $(DIST)/leasedog*.rpm
	@$(MAKE) --no-print-directory debs rpms

debs rpms: build
	@test -n "$(SOURCE_DATE_EPOCH)" || { echo "set SOURCE_DATE_EPOCH: there is no commit to take the time from"; exit 1; }
	@for arch in $(ARCHES); do \
		bin=$(BIN); \
		test $$arch = "$$($(GO) env GOHOSTARCH)" || { bin=$(BIN)/$$arch; GOARCH=$$arch $(MAKE) --no-print-directory programs BIN=$$bin; } || exit 1; \
		$(MAKE) --no-print-directory package BIN=$$bin ARCH=$$arch FORMAT=$(@:s=) DESTDIR= PREFIX=/usr || exit 1; \
	done

package:
	@for p in leasedog leasedog-arbiter; do \
		SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) GO=$(GO) packaging/nfpm/package.sh $$p $(VERSION) $(ARCH) $(FORMAT) $(DIST) || exit 1; \
	done

files:
	@printf '%s\n' "$$FILES"

check-packages: packages ## lintian, rpmlint, an install and a removal of each, SELinux sources, a second build (root; installs what is missing)
	$(GO) run ./test/packages/cmd/packages -dist $(DIST)
