# Postrider. `make` lists the targets.

SHELL         := bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS    := -s -w -X postrider.dev/postrider/server.Version=$(VERSION)
TAGS       := release,disable_grpc_modules
POSTRIDER  := bin/postrider
STANDALONE := bin/postrider-standalone
TOOLS      := bin/tools/.made
MODULES    := . standalone bench deploy tools tools/openapi
GOLANGCI   := $(CURDIR)/bin/tools/golangci-lint
ARGS       ?=
VULNDB     ?= https://vuln.go.dev

# A package of tests that take five minutes on two cores of their own may take three times as long
# beside others' work.
TEST_TIMEOUT := 50m

# The documented API, and the promise that it is compared with.
OPENAPI          := api/testdata/openapi.json
OPENAPI_BASELINE := tools/openapi/baseline.json

# A release's files have the time of its commit, so that everybody builds the same ones.
RELEASER          := bin/tools/release
TARGETS           ?=
PROGRAMS          ?=
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)

# The rooms whose coverage counts together, and the least of it, in percent of statements.
MODULE       := postrider.dev/postrider
COVERED      := $(MODULE),$(MODULE)/signing,$(MODULE)/egress,$(MODULE)/workflows,$(MODULE)/store,$(MODULE)/store/sqldb,$(MODULE)/api,$(MODULE)/api/rest
COVERAGE     := bin/coverage.out
COVERAGE_MIN := 85

# All commands compile with the same flags, so that the embedded Temporal server, minutes of
# work for two cores, is compiled once for build, lint and test together. The tags leave out
# parts of it that never run: docs/decisions/0009-first-build.md.
# go.work is for editors: here each module is built from its own go.mod. An older Go than
# go.mod asks for, which lacks fixes of its standard library's security, fetches that one.
export GOTOOLCHAIN := auto
export CGO_ENABLED := 0
export GOFLAGS     := $(GOFLAGS) -trimpath -buildvcs=false -tags=$(TAGS)
export GOWORK      := off

# Counts the packages that `go build -v` names, and lets everything else through: errors.
PROGRESS := awk -v terminal='$(MAKE_TERMOUT)' ' \
	function count() { printf "%s  %d packages compiled%s", terminal ? "\r" : "", n, terminal ? "" : "\n"; fflush() } \
	/^go: downloading / { next } \
	/^[^ :]+$$/ { if (++n % (terminal ? 1 : 250) == 0) count(); next } \
	{ if (n && terminal) print ""; print; fflush() } \
	END { if (n) count(); if (n && terminal) print "" }'

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: build-standalone ## Build and run everything in one process; flags go in ARGS="--listen 127.0.0.1:8081"
	@exec $(STANDALONE) $(ARGS)

.PHONY: demo
demo: build-standalone ## Deliver real events to real receivers in a temporary folder, and check every one
	@$(STANDALONE) demo $(ARGS)

.PHONY: build
build: build-postrider build-standalone ## Build bin/postrider (production) and bin/postrider-standalone

.PHONY: build-postrider
build-postrider:
	@echo "Building $(POSTRIDER) $(VERSION)"
	@go build -v -ldflags '$(LDFLAGS)' -o $(POSTRIDER) ./cmd/postrider 2>&1 | $(PROGRESS)

.PHONY: build-standalone
build-standalone:
	@echo "Building $(STANDALONE) $(VERSION)"
	@test -e $(STANDALONE) || echo "  Temporal is inside: a first build downloads and compiles for 3 to 6 minutes on 2 cores; the next ones take seconds."
	@go -C standalone build -v -ldflags '$(LDFLAGS)' -o ../$(STANDALONE) . 2>&1 | $(PROGRESS)

# The store's conformance suite runs on SQLite alone here. Go's cache answers for packages
# in which nothing changed.
SLOW := ^(TestPostgres|TestReadsWhatItNeeds|TestMigrateTogether|TestPlansWithoutScans|TestNothingScans)$$

.PHONY: check
check: $(TOOLS) ## The inner loop: lint and quick tests of the root module; not raced, no binaries, no other module, little PostgreSQL
	$(GOLANGCI) run --allow-parallel-runners ./...
	go test -short -vet=off -skip '$(SLOW)' ./...

.PHONY: test
test: test-root build-standalone ## Run all tests, the end-to-end ones too; needs the programs of PostgreSQL and Prometheus
	@$(MAKE) --no-print-directory --output-sync=target -j2 test-standalone test-bench

# The tests of the root module, raced, write the coverage profile as they go: a second
# run for it would compile everything again. `make lint` has vetted already. SQLite's own code,
# C that was translated to Go, is not watched for races: that made tests of SQLite take three times the CPU.
.PHONY: test-root
test-root: ## Run the tests that need no embedded Temporal
	@mkdir -p bin
	CGO_ENABLED=1 go test -race -gcflags='modernc.org/sqlite/lib=-race=false' -vet=off -timeout $(TEST_TIMEOUT) -coverpkg=$(COVERED) -coverprofile=$(COVERAGE).part ./...
	@mv $(COVERAGE).part $(COVERAGE)

# Not raced: the race detector would want the whole Temporal server compiled once more.
# Built first, so that a cold compile shows its progress and counts for no test timeout.
# Not cached: Go does not see that the tests depend on the binaries that they start.
.PHONY: test-standalone
test-standalone: build-standalone ## Run the tests of the embedded Temporal, and end-to-end against the binary
	go -C standalone test -vet=off -timeout $(TEST_TIMEOUT) -count=1 ./...

.PHONY: test-bench
test-bench: build-standalone ## Run the tests of the benchmark
	go -C bench test -vet=off -timeout $(TEST_TIMEOUT) -count=1 ./...

# DURATION, SEED and LAYOUT are flags of the program: --duration and so on.
.PHONY: chaos
chaos: build ## Break the real binaries under load and count what is lost; DURATION=10m SEED=1 LAYOUT=standalone-sqlite|standalone-postgres|cluster
	@go -C bench build -o ../bin/bench/ ./chaos
	@bin/bench/chaos $(if $(DURATION),--duration $(DURATION)) $(if $(SEED),--seed $(SEED)) $(if $(LAYOUT),--layout $(LAYOUT)) $(ARGS)

FUZZTIME ?= 10m

.PHONY: fuzz
fuzz: ## Run every fuzz target for its share of the time, and count executions; FUZZTIME=10m
	@go -C tools run ./fuzz --time $(FUZZTIME) ..

# SCENARIOS, MODES, RUNS, JSON and PROFILE are flags of the program: --scenarios and so on.
.PHONY: bench
bench: build ## Measure speed and cost; SCENARIOS=burst,fanout MODES=single,batch RUNS=3 JSON=file PROFILE=folder
	@echo "Building the benchmark"
	@go -C bench build -v -o ../bin/bench/ ./... 2>&1 | $(PROGRESS)
	@bin/bench/bench run $(if $(SCENARIOS),--scenarios $(SCENARIOS)) $(if $(MODES),--modes $(MODES)) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(JSON),--json $(JSON)) $(if $(PROFILE),--profile $(PROFILE)) $(ARGS)

.PHONY: bench-doc
bench-doc: ## Write the tables of docs/performance.md from docs/performance.json
	go -C bench run . doc --json ../docs/performance.json --page ../docs/performance.md

$(COVERAGE): $(shell find . -name '*.go' -not -path './standalone/*' -not -path './bench/*' -not -path './deploy/*' -not -path './tools/*')
	@$(MAKE) test-root

.PHONY: cover
cover: $(COVERAGE) ## Print the coverage of the tests and fail when there is too little
	@go tool cover -func=$(COVERAGE) | awk '/^total:/ { total = $$3 + 0 } \
		END { printf "coverage %.1f%%, at least $(COVERAGE_MIN)%% wanted\n", total; exit total < $(COVERAGE_MIN) }'

.PHONY: lint
lint: $(TOOLS) ## Check style, arrows, workflow determinism and go.mod of every module
	$(GOLANGCI) run --allow-parallel-runners ./...
	cd standalone && $(GOLANGCI) run --allow-parallel-runners ./...
	cd bench && $(GOLANGCI) run --allow-parallel-runners ./...
	cd deploy && $(GOLANGCI) run --allow-parallel-runners ./...
	cd tools && $(GOLANGCI) run --allow-parallel-runners ./...
	cd tools/openapi && $(GOLANGCI) run --allow-parallel-runners ./...
	go -C deploy test ./...
	go -C tools test ./...
	go -C tools/openapi test -count=1 ./...
	bin/tools/workflowcheck ./workflows/...
	for module in $(MODULES); do go -C $$module mod tidy -diff; done

.PHONY: fmt
fmt: $(TOOLS) ## Format the code
	$(GOLANGCI) fmt

.PHONY: vuln
vuln: $(TOOLS) ## Look for known vulnerabilities; VULNDB=file:///… asks a copy of the database instead of vuln.go.dev
	for module in . standalone bench; do bin/tools/govulncheck -db '$(VULNDB)' -C $$module ./...; done

.PHONY: licences
licences: ## Check the licences of all modules that the code is made of; ARGS=--list names them
	@go -C tools run ./licences $(ARGS) $(addprefix ../,$(MODULES))

.PHONY: histories
histories: ## Record the workflow histories that the replay tests read, after a change of workflow code
	go -C standalone test ./e2e -run 'TestHistories|TestTraceStaysHere|TestBatch|TestFailedForGood|TestRetriesTogether|TestActions$$' -count=1 -record $(CURDIR)/workflows/testdata

.PHONY: metrics
metrics: ## Print how the code of each module reads in figures, and hold the first to its limits; ARGS=--list names the places
	@go -C tools run ./metrics --check $(ARGS) ..

.PHONY: generate
generate: ## Write the code that follows from the API's document: package client, and the commands that call the API
	@go -C tools run ./apigen ..

.PHONY: openapi-baseline
openapi-baseline: ## Promise the API as it is documented now, at a release or when a break is meant
	cp $(OPENAPI) $(OPENAPI_BASELINE)

.PHONY: tools
tools: $(TOOLS) ## Build the linters into bin/tools

$(TOOLS): tools/go.mod tools/go.sum tools/openapi/go.mod tools/openapi/go.sum
	@echo "Building the linters: a few minutes, once"
	@GOBIN=$(CURDIR)/bin/tools go -C tools install tool
	@GOBIN=$(CURDIR)/bin/tools go -C tools/openapi install tool
	@touch $@

# Each target compiles a Temporal server of its own, minutes with a cold cache.
.PHONY: release-dry-run
release-dry-run: ## Build a release's files into dist/; TARGETS="host windows/amd64" PROGRAMS=postrider build some
	@go -C tools build -o ../$(RELEASER) ./release
	@$(RELEASER) --version '$(VERSION)' --time '$(SOURCE_DATE_EPOCH)' --ldflags '$(LDFLAGS)' --tags '$(TAGS)' \
		--targets '$(TARGETS)' --programs '$(PROGRAMS)' --out dist
	@cd dist && sha256sum --check --quiet SHA256SUMS && ls -l

# What is published is a tagged commit and nothing else, with its section of the changelog
# as notes. The promise of the API has to be the document of that commit.
.PHONY: release
release: ## Build the files of the tag that is checked out, and publish them with `gh`; CI does it for each tag
	@git describe --tags --exact-match --match 'v*' HEAD
	@test -z "$$(git status --porcelain)" || { echo "There are changes that are not committed." >&2; exit 1; }
	@cmp $(OPENAPI) $(OPENAPI_BASELINE) || { echo "Run make openapi-baseline before the tag." >&2; exit 1; }
	@go -C tools build -o ../$(RELEASER) ./release
	@$(RELEASER) notes '$(VERSION)' > bin/notes.md
	@$(MAKE) --no-print-directory release-dry-run TARGETS= PROGRAMS=
	gh release create '$(VERSION)' --verify-tag --title 'Postrider $(VERSION)' --notes-file bin/notes.md dist/*

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist
