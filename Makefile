# What a developer and CI run. Everything it needs beyond Go is named where it is needed; `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

root     := $(CURDIR)
bin      := $(root)/bin
tools    := $(root)/.cache/bin
services := gateway store persistence notification cluster controlplane
modules  := $(shell go work edit -json | sed -n 's/.*"DiskPath": "\(.*\)".*/\1/p')
version  := $(shell git -C $(root) describe --tags --always --dirty 2>/dev/null || echo unknown)
ldflags  := -X github.com/exesdb/exesdb/shared/version.Version=$(version)

generated := contracts/gen contracts/openapi contracts/CATALOGUE.md contracts/asyncapi.yaml

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  make %-16s %s\n", $$1, $$2 }'

.PHONY: run
run: cli ## Start ExESDB here: all services, an embedded Kafka and Redis, one process (ARGS=... for more flags)
	$(bin)/exesdb up $(ARGS)

.PHONY: cli
cli: ## Build the exesdb command into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '$(ldflags)' -o $(bin)/exesdb ./tools/exesdb

.PHONY: build
build: cli ## Build the exesdb command and every service into bin/
	@for s in $(services); do \
	  echo "go build services/$$s"; \
	  CGO_ENABLED=0 go build -trimpath -ldflags '$(ldflags)' -o $(bin)/exesdb-$$s ./services/$$s; \
	done

# Acceptance packages take turns; with -p 4 others go on meanwhile, also on two cores.
.PHONY: test
test: ## Test every module, with the race detector, on the embedded Kafka and Redis (TESTFLAGS=... for more flags)
	go test -race -count=1 -p 4 -timeout 15m $(TESTFLAGS) work

.PHONY: test-real
test-real: ## Run the acceptance suite on a real Kafka and Redis (needs Java 17, Maven, redis-server; see deployments/)
	cd acceptance && ../deployments/real/run -- go test -count=1 -timeout 20m $(TESTFLAGS) ./...

.PHONY: lint
lint: $(tools)/golangci-lint ## Lint every module
	@for m in $(modules); do echo "golangci-lint $$m"; (cd $$m && $(tools)/golangci-lint run --config $(root)/.golangci.yml ./...); done

.PHONY: generate
generate: codegen-tools ## Write the generated code anew from contracts/proto
	rm -rf contracts/.cache/proto
	cd tools/codegen && GOWORK=off go run ./wellknown $(root)/contracts/.cache/proto
	cd contracts && $(tools)/buf generate && GOWORK=off go generate ./...

.PHONY: check-generated
check-generated: ## Fail if the generated code is not what contracts/proto gives
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; \
	cp -R --parents $(generated) "$$before"; \
	$(MAKE) generate; \
	for g in $(generated); do diff -r "$$before/$$g" "$$g" || { echo "$$g was not up to date; it is now: commit it" >&2; exit 1; }; done

.PHONY: proto-lint
proto-lint: codegen-tools contracts/.cache/proto ## Lint contracts/proto
	cd contracts && $(tools)/buf lint

.PHONY: tidy
tidy: ## Tidy the go.mod of every module, the pinned tools' included
	@for m in $(modules) tools/codegen tools/lint; do echo "go mod tidy $$m"; (cd $$m && GOWORK=off go mod tidy); done

.PHONY: bench
bench: cli ## Measure writes and reads on the embedded system (ARGS=... for more flags)
	$(bin)/exesdb bench $(ARGS)

.PHONY: clean
clean: ## Remove what was built and fetched; data/ stays
	rm -rf $(bin) .cache contracts/.cache

.PHONY: ci
ci: ## Everything that CI checks
	bash .ci/run

# The pinned tools: modules of their own, so that what they need never decides a version for the services.
.PHONY: codegen-tools lint-tools
lint-tools: $(tools)/golangci-lint
codegen-tools: $(tools)/buf
$(tools)/buf: tools/codegen/go.mod tools/codegen/go.sum
	@mkdir -p $(tools)
	cd tools/codegen && GOWORK=off go build -o $(tools)/ tool
	@touch $@

$(tools)/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@mkdir -p $(tools)
	cd tools/lint && GOWORK=off go build -o $(tools)/ tool
	@touch $@

contracts/.cache/proto:
	cd tools/codegen && GOWORK=off go run ./wellknown $(root)/contracts/.cache/proto
