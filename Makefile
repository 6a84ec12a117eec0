GO      ?= go
# A number of inputs, not a time: when a time is over, go test can fail with "context
# deadline exceeded" before Go 1.27 (go.dev/issue/75804).
FUZZTIME ?= 10000x

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STAMP   := github.com/prometheus/common/version
LDFLAGS := -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Revision=$(shell git rev-parse HEAD 2>/dev/null)
# A binary contains nothing that depends on the machine or the build time.
COMPILE := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TARGETS := linux-amd64 linux-arm64 darwin-arm64 windows-amd64

.PHONY: build test race unit vet fuzz e2e e2e-fast vet-windows programs year browser bench soak lint release reproducible

build:
	$(COMPILE) -o crs_exporter .

release: $(TARGETS:%=dist/crs_exporter-%)

dist/crs_exporter-%: FORCE
	@mkdir -p dist
	GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(word 2,$(subst -, ,$*)) $(COMPILE) -o $@ .

FORCE:

# Two builds from scratch, in two different directories, must produce the same file.
reproducible:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	for n in 1 2; do \
		mkdir -p $$dir/$$n/deep; git archive HEAD | tar -x -C $$dir/$$n/deep; \
		(cd $$dir/$$n/deep && GOCACHE=$$dir/$$n/cache $(COMPILE) -o $$dir/$$n/crs_exporter .); \
	done; \
	sha256sum $$dir/1/crs_exporter $$dir/2/crs_exporter | cut -d' ' -f1; \
	cmp $$dir/1/crs_exporter $$dir/2/crs_exporter

# Says what a long step does, at the start and every 30 seconds.
SAY := $(CURDIR)/.ci/say

# The checks for each change: less than two minutes with warm caches. They run side by
# side, because they mostly wait.
test:
	@$(MAKE) --no-print-directory -j2 vet unit e2e-fast

# The checks that take longer. .ci/run has them all, after make test.
race:
	@$(SAY) 'testing the exporter with the race detector' $(GO) test -race -timeout 30m ./...

vet:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt on these files'; exit 1; }
	@$(SAY) 'checking the code (vet)' $(GO) vet ./...

unit:
	@$(SAY) 'testing the exporter' $(GO) test ./...

fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			$(SAY) "fuzzing with $$target" $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$package; \
		done; \
	done

e2e-fast:
	@cd deploy/e2e && $(SAY) 'testing deploy without Prometheus, Alertmanager and Helm' $(GO) test -short -count=1 ./...

vet-windows:
	@$(SAY) 'checking the code for Windows (vet)' env GOOS=windows $(GO) vet ./...

# The real Prometheus, Alertmanager and Helm.
programs:
	@cd deploy/e2e && $(SAY) 'building Prometheus, Alertmanager and Helm (minutes the first time, later seconds)' \
		$(GO) test -run TestPrograms -v -count=1 -timeout 60m .

e2e: vet-windows programs
	@cd deploy/e2e && $(SAY) 'testing deploy with Prometheus, Alertmanager and Helm, and the alerts over a simulated week' \
		$(GO) test -count=1 -timeout 60m ./...

# A simulated year of the alerts, in less than an hour on two cores. Another SEED is
# another year.
SEED ?= 1
year:
	cd deploy/e2e && $(GO) test -run TestScenario -v -timeout 3h ./year -days 365 -coarse -seed $(SEED)

# Opens the pages in Debian's chromium (apt-get install chromium), and writes the pictures
# of the documents anew.
browser:
	cd deploy/e2e/browser && $(GO) test -count=1 -timeout 10m . -screenshots ../../screenshots

# Takes about ten minutes.
bench:
	$(GO) test -run '^$$' -bench 'WholeScrape|Memory' -benchtime 1x -timeout 30m ./collector
	$(GO) test -run '^$$' -bench . -skip 'WholeScrape|Memory' -benchmem ./crsapi/... ./collector/...

# An hour of scrapes, half of it through each API, compressed into a few minutes, with injected faults.
soak:
	$(GO) test -tags soak -run TestSoak -v -timeout 15m ./collector

lint:
	$(GO) tool -modfile=.ci/lint.mod golangci-lint run ./...
