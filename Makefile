GO ?= go

# Says what a long step does, at its start and every 30 seconds.
SAY := $(CURDIR)/.ci/say

.PHONY: test race e2e fuzz year bench soak lint browser release

# All that a change must pass. It needs Go, git, make and bash.
test:
	@echo 'make test: a few minutes the first time, about one later'
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt on these files'; exit 1; }
	@$(SAY) 'checking the code (vet)' $(GO) vet ./...
	@$(SAY) 'testing the exporter' $(GO) test ./...
	@# The test cache does not see changes of files outside the module.
	@cd deploy/e2e && $(SAY) 'testing deploy and the alert rules, without Prometheus, Alertmanager and Helm' $(GO) test -short -count=1 ./...

race:
	@$(SAY) 'testing the exporter with the race detector' $(GO) test -race -timeout 30m ./...

# The real Prometheus, Alertmanager and Helm, which it builds, and the alerts over a
# simulated week.
e2e:
	@$(SAY) 'checking the code for Windows (vet)' env GOOS=windows $(GO) vet ./...
	@cd deploy/e2e && $(SAY) 'building Prometheus, Alertmanager and Helm (minutes the first time, later seconds)' \
		$(GO) test -run TestPrograms -v -count=1 -timeout 60m .
	@cd deploy/e2e && $(SAY) 'testing deploy with Prometheus, Alertmanager and Helm, and the alerts over a simulated week' \
		$(GO) test -count=1 -timeout 60m ./...

# A number of inputs, not a time: when a time is over, go test can fail with "context
# deadline exceeded" before Go 1.27 (go.dev/issue/75804).
FUZZTIME ?= 10000x
fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			$(SAY) "fuzzing with $$target" $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$package; \
		done; \
	done

# A simulated year of the alerts. Another SEED is another year.
SEED ?= 1
year:
	cd deploy/e2e && $(GO) test -run TestScenario -v -timeout 3h ./year -days 365 -coarse -inventory -seed $(SEED)

bench:
	$(GO) test -run '^$$' -bench 'WholeScrape|Memory' -benchtime 1x -timeout 30m ./collector
	$(GO) test -run '^$$' -bench . -skip 'WholeScrape|Memory' -benchmem ./crsapi/... ./collector/...

# An hour of scrapes with injected faults, in simulated time.
soak:
	$(GO) test -run TestMovingList/faults -scrapes 240 -v -timeout 15m ./collector

lint:
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run ./...

# Opens the pages in Debian's chromium (apt-get install chromium), and writes the pictures
# of the documents again.
browser:
	cd deploy/e2e/browser && $(GO) test -count=1 -timeout 10m . -screenshots ../../screenshots

# A binary contains nothing that depends on the machine or the build time.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STAMP   := github.com/prometheus/common/version
LDFLAGS := -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Revision=$(shell git rev-parse HEAD 2>/dev/null)

release: $(addprefix dist/crs_exporter-,linux-amd64 linux-arm64 darwin-arm64 windows-amd64)

dist/crs_exporter-%: FORCE
	@mkdir -p dist
	CGO_ENABLED=0 GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(word 2,$(subst -, ,$*)) \
		$(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $@ .

FORCE:
