# Two commands on a fresh Debian machine with Go: `make demo` and `make test`.
# Both install what they need (as root, with apt-get) and clean up after themselves.

GO      ?= go
BIN     := bin/berth
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
# Tests with whole clusters have the machine for themselves.
WHOLE   := ^(TestRealCluster|TestNoRequestIsLost)$$
PKGS    := containerd runc iptables iproute2 curl git

.DEFAULT_GOAL := help
.PHONY: help setup build demo test race bench lint fmt docs clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what real nodes need (containerd, runc, iptables), and git for modules
	@missing=""; for c in containerd:containerd runc:runc iptables:iptables ip:iproute2 curl:curl git:git; do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v $${c%%:*} >/dev/null || missing="$$missing $${c##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  [ "$$(id -u)" = 0 ] || { echo "make setup: run as root, or install:$$missing" >&2; exit 1; }; \
	  echo "installing$$missing"; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends$$missing >/dev/null; \
	fi

build: ## build bin/berth
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/berth

demo: setup build ## three masters, three nodes, real containers: plan, apply, roll, break, revert
	examples/shop/demo.sh $(CURDIR)/$(BIN)

test: setup build ## everything: unit, property, script, in-process clusters, real nodes
	@[ -x /usr/lib/cni/bridge ] || [ "$$(id -u)" != 0 ] || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends containernetworking-plugins >/dev/null; } || \
	  echo "without containernetworking-plugins the tests of CNI are skipped"
	$(GO) vet ./...
	$(GO) test -timeout 20m -skip '$(WHOLE)' ./...
	$(GO) test -timeout 20m -run '$(WHOLE)' ./cmd/berth

race: ## the tests of the control plane under the race detector
	$(GO) test -race -timeout 20m ./cluster/... ./planner/... ./hcl/... ./node/agent/... ./node/probe/...

bench: setup build ## measure; prints a table and saves bench.json
	$(GO) run ./cmd/internal/bench -berth $(CURDIR)/$(BIN) -o bench.json

lint: ## golangci-lint with .golangci.yml, through the module proxy
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2 run ./...

fmt: ## format Go and HCL
	gofmt -w $$(git ls-files '*.go')
	$(BIN) fmt --recursive examples

docs: ## write the generated pages of docs/ anew
	$(GO) test ./cluster/object ./cluster/controller ./cmd/berth -run 'Reference|Graph|Docs' -update

clean: ## remove what was built
	rm -rf bin bench.json
