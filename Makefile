# make demo    install into .venv and run on a small dataset made on the spot
# make test    install into .venv and run the fast tests, which cover every module (6 minutes)
# make test-slow        all other tests: processes that are killed, real scans, learning in full
# make test-plain       the fast tests whose outcome could hang on the processor, without its vectors
# make check   format, lint, types and who imports whom
# make docs    build the documentation into docs/_build/html, without a network; warnings are errors
# make test-timing      compare times with the recorded ones, on a machine that does nothing else
# make baseline renew the figures that tests compare with; read what changes like code
# make evaluate  simulated cases against interpolation and the plain model (some hours)
# make evaluate-lesions  what becomes of lesions in thick slices; EVALUATE_ARGS name the heads
# make peers  other programs on the same scans, in environments of their own (a day; it goes on where it
#             was stopped; PEERS_ARGS="--gpu" for ECLARE on a GPU), and docs/explanation/peers.md
# make bench   measure kernels, solver and a whole participant (BENCH_ARGS="--device cuda")
# make container-test   build the container images and run them (root, Debian; see tests/containers);
#             CONTAINER_TORCH=cuda for the image for GPUs
# make datalad-test   run in a dataset of DataLad, which gets an environment of its own
# make tools-test     BABS, Nipoppy and nnU-Net read what is written for them; they get environments of their own
# make cluster-test     run on a Slurm of one node (root, Debian's slurm-wlm)
# make fuzz    read damaged images, sidecars and names for a minute (FUZZ_SECONDS=20 each)
# make clean   remove .venv, caches and the demo's output

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATALAD := $(VENV)/datalad
TOOLS := $(VENV)/tools
NNUNET := $(VENV)/nnunet
PEERS := $(VENV)/peers
PYTEST_ARGS ?=
# Files of tests run beside each other; what one prepares for its tests is prepared once.
PYTEST_WORKERS ?= auto
BESIDE := --numprocesses $(PYTEST_WORKERS) --maxprocesses 8 --dist loadfile
PYTEST := $(BIN)/python -m pytest
BENCH_ARGS ?=
EVALUATE_ARGS ?=
PEERS_ARGS ?=
FUZZ_SECONDS ?= 20
CONTAINER_WORK ?= /dev/shm/bids_unires-containers
CONTAINER_TORCH ?= cpu

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-slow test-plain test-timing baseline check bench evaluate evaluate-lesions peers docs fuzz container-test datalad-test tools-test cluster-test format clean

help:
	@sed -n 's/^# //p' Makefile

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml version
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	$(BIN)/bids_unires demo demo_out

test: $(STAMP)
	$(PYTEST) -m "not slow" $(BESIDE) $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(PYTEST) -m "slow and not timing" $(BESIDE) $(PYTEST_ARGS)

test-plain: $(STAMP)
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 PLAIN_KERNELS=1 \
	$(PYTEST) -m "not slow" $(BESIDE) $(PYTEST_ARGS) tests/space tests/kernels tests/registration tests/model

test-timing: $(STAMP)
	$(PYTEST) -m timing $(PYTEST_ARGS)

baseline: $(STAMP)
	$(BIN)/python -m benchmarks.baseline
	$(BIN)/python -m evaluation.baseline
	$(BIN)/python -m tests.pipeline.recorded

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(STAMP) $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html

$(VENV)/.docs: requirements-docs.lock requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint requirements.lock \
		--requirement requirements-docs.lock
	@touch $@

bench: $(STAMP)
	$(BIN)/python -m benchmarks bench $(BENCH_ARGS)

evaluate: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet scikit-image==0.26.0
	$(BIN)/python -m evaluation evaluation_out $(EVALUATE_ARGS)
	$(BIN)/python -m evaluation.ct_report evaluation_out --middle

evaluate-lesions: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet scikit-image==0.26.0
	$(BIN)/python -m evaluation.lesion_report evaluation_out $(EVALUATE_ARGS)

peers: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet scikit-image==0.26.0
	$(BIN)/python -m evaluation.peers peers_out --environments $(PEERS) $(PEERS_ARGS)

container-test: $(STAMP)
	BIN=$(BIN) CONTAINER_TORCH=$(CONTAINER_TORCH) tests/containers/check.sh $(CONTAINER_WORK)

datalad-test: $(STAMP) $(DATALAD)/.installed
	PATH=$(abspath $(DATALAD))/bin:$$PATH $(BIN)/python -m pytest tests/containers/test_datalad.py $(PYTEST_ARGS)

$(DATALAD)/.installed: requirements-datalad.lock
	test -x $(DATALAD)/bin/python || $(PYTHON) -m venv $(DATALAD)
	$(DATALAD)/bin/python -m pip install --disable-pip-version-check --quiet --requirement requirements-datalad.lock
	@touch $@

tools-test: $(STAMP) $(TOOLS)/.installed $(NNUNET)/.installed
	PATH=$(abspath $(TOOLS))/bin:$$PATH $(BIN)/python -m pytest tests/containers/test_runners.py $(PYTEST_ARGS)
	PYTHONPATH=$(abspath $(NNUNET)) $(BIN)/python -m pytest tests/export/test_nnunet.py $(PYTEST_ARGS)

$(TOOLS)/.installed: requirements-tools.lock
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --disable-pip-version-check --quiet --requirement requirements-tools.lock
	@touch $@

# Without what it needs for training, none of which its readers import.
$(NNUNET)/.installed: Makefile
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --upgrade --target $(NNUNET) \
		nnunetv2==2.8.1 batchgenerators==0.25.5 acvl-utils==0.2.6 tqdm==4.70.1
	@touch $@

cluster-test: $(STAMP)
	CLUSTER_TESTS=1 $(BIN)/python -m pytest tests/cluster $(PYTEST_ARGS)

fuzz: $(STAMP)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/faults/test_fuzz.py $(PYTEST_ARGS)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet atheris==3.0.0
	$(BIN)/python -m tests.faults.guided nifti $(FUZZ_SECONDS)
	$(BIN)/python -m tests.faults.guided sidecar $(FUZZ_SECONDS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo_out bench evaluation_out peers_out build dist docs/_build docs/figures/generated *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
