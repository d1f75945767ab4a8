# Measures ours and its peers, which have an environment of their own; the Makefile includes this.
BENCH_READY := .venv-bench/.ready
BENCH ?=

.PHONY: bench

$(BENCH_READY): requirements-bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-bench.txt
	@touch $@

bench: $(READY) $(BENCH_READY) ## measure ours and its peers, for hours (BENCH='--runs 1 --scale 0.1': less; BENCH=--help: all options)
	$(BIN)/python -m tests.benchmarks.bench $(if $(BENCH),$(BENCH),--out docs)
