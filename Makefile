GO      ?= go
FUZZTIME ?= 3s

# The race detector needs a C compiler on most systems. Where there is none,
# the tests run without it, and say so.
ifneq ($(shell command -v $$($(GO) env CC) 2>/dev/null),)
RACE := -race
endif

.PHONY: build test unit vet fuzz e2e bench soak lint

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o crs_exporter .

# Everything that has to pass, with nothing on the machine but Go, git and make.
test: vet fuzz unit e2e

vet:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'these files want gofmt'; exit 1; }
	$(GO) vet ./...

unit:
	@test -n "$(RACE)" || echo 'no C compiler found: the tests run without the race detector'
	$(GO) test $(RACE) ./...

fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

e2e:
	@echo 'the real Prometheus and Alertmanager are built next: some ten minutes the first time, seconds after that'
	cd deploy/e2e && $(GO) test -timeout 60m ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

lint:
	$(GO) tool -modfile=.ci/lint.mod golangci-lint run ./...
