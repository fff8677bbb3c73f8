# Every target makes the virtual environments that it needs. Set PYTHON to choose an interpreter (3.11 or newer),
# TORCH_INDEX to take torch from another index, for example one with CPU builds.

PYTHON ?= python3
TORCH_INDEX ?=
BUILDER := .venv/bin/
RUNTIME := .venv-runtime/bin/
BUNDLES := .cache/test-bundles
DEMO := fp32 bf16 batches
EXPORTER := $(wildcard export/calotype_export/*.py)
# ONNX Runtime for CUDA, whose provider some tests open without a GPU; in a folder of its own, since pip would put it in
# place of the one for CPUs
CUDA_RUNTIME := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),.cache/onnxruntime-gpu/ready)
# tests run in two processes of one thread each: tracing has only one, and is most of the time
BESIDE := --numprocesses 2 --dist loadfile
test: export OMP_NUM_THREADS := 1

.SECONDARY:
.PHONY: help demo test check fix parity score bench bench-full compile-check launches gpu build clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

demo: .venv/ready  ## draw a contact sheet with the checkpoints in demo/ (demo/out/sheet.png)
	$(BUILDER)python demo/sheet.py

test: .venv/ready .venv-runtime/ready $(CUDA_RUNTIME)  ## run every test: the runtime's without torch, the others with it
	$(BUILDER)python -m tests.bundles $(BUNDLES)
	$(RUNTIME)python -m pytest $(BESIDE) tests/engine tests/backends tests/test_architecture.py
	$(RUNTIME)python -m pytest --rehearse tests/gpu
	$(BUILDER)python -m pytest $(BESIDE) tests/export tests/parity tests/demo tests/benchmarks

check: .venv/ready .venv-runtime/ready  ## format, lint, types and the fast tests
	$(BUILDER)ruff format --check
	$(BUILDER)ruff check
	$(BUILDER)pyright
	$(BUILDER)python -m tests.bundles $(BUNDLES)
	$(RUNTIME)python -m pytest -q -m "not slow" tests/engine tests/backends tests/test_architecture.py

fix: .venv/ready  ## format, and mend what ruff can
	$(BUILDER)ruff format
	$(BUILDER)ruff check --fix

parity: .venv/ready  ## compare with eager diffusers on the demo checkpoints: every scheduler, every way of drawing
	$(BUILDER)python -m pytest -m "not gpu" --parity=full tests/parity

score: .venv/ready  ## measure the demo checkpoints: 200 pictures, read with classical image analysis
	$(BUILDER)python demo/score

bench: .venv/ready $(DEMO:%=.cache/bench/demo-%)  ## the demo checkpoint beside its peers: latency, fidelity, report
	$(BUILDER)calotype-bench latency .cache/bench/demo-fp32 .cache/bench/demo-bf16 --backend openvino \
		--against onnxruntime,$(PEERS) --checkpoint demo/text-to-image --steps 10,20 --runs 12 \
		--title "The demo checkpoint" -o benchmarks/results/demo.json
	$(BUILDER)calotype-bench latency .cache/bench/demo-batches --backend openvino --against eager \
		--checkpoint demo/text-to-image --steps 10 --batch 1,2,4 --runs 6 --no-operators \
		--title "The demo checkpoint, several pictures at once" -o benchmarks/results/demo-batches.json
	$(BUILDER)calotype-bench compare .cache/bench/demo-fp32 --backend openvino,onnxruntime $(COMPARED) \
		--title "Pictures of the demo checkpoint" -o benchmarks/results/demo-pictures.json
	$(BUILDER)calotype-bench compare .cache/bench/demo-bf16 --backend openvino --beside compile-bf16,optimum-intel-bf16 $(COMPARED) \
		--title "Pictures of the demo checkpoint in bf16" -o benchmarks/results/demo-pictures-bf16.json
	for precision in fp32 bf16; do $(BUILDER)calotype-bench techniques .cache/bench/demo-$$precision --runs 30 \
		--title "What rewriting gains, the demo checkpoint in $$precision" \
		-o benchmarks/results/demo-techniques-$$precision.json || exit 1; done
	$(BUILDER)calotype-bench report benchmarks/results/demo*.json -o .cache/bench/report.html
	$(BUILDER)calotype-bench tables README.md benchmarks/*.md

# at full size one engine at a time is in memory; many hours on two cores: STEPS=2 RUNS=3 makes it less, without intervals
STEPS ?= 20
RUNS ?= 6
PEERS := eager,eager-bf16,compile,compile-bf16,optimum-intel,optimum-intel-bf16,optimum-onnx,stable-diffusion.cpp
FULL := sd15 sd21-base
COMPARED := --against demo/text-to-image --prompts benchmarks/prompts.txt --seeds 1,2,3,4 --pictures 1
COMPARED_FULL = --against .cache/bench/$* --prompts benchmarks/prompts.txt --steps $(STEPS) --pictures 0

bench-full: $(FULL:%=bench-%)  ## the same on random weights of sd15 and sd21-base at full size: hours
	$(BUILDER)calotype-bench report $(FULL:%=benchmarks/results/%*.json) -o .cache/bench/report-full.html
	$(BUILDER)calotype-bench tables README.md benchmarks/*.md

$(FULL:%=bench-%): bench-%: .cache/bench/%-fp32 .cache/bench/%-bf16
	$(BUILDER)calotype-bench latency .cache/bench/$*-fp32 .cache/bench/$*-bf16 --backend openvino \
		--against onnxruntime,$(PEERS) --checkpoint .cache/bench/$* --steps $(STEPS) --runs $(RUNS) --one-at-a-time \
		--title "$* at full size, random weights" -o benchmarks/results/$*.json
	$(BUILDER)calotype-bench compare .cache/bench/$*-fp32 --backend openvino $(COMPARED_FULL) \
		--title "Pictures of $* at full size in fp32" -o benchmarks/results/$*-pictures-fp32.json
	$(BUILDER)calotype-bench compare .cache/bench/$*-bf16 --backend openvino --beside compile-bf16,optimum-intel-bf16 \
		$(COMPARED_FULL) --title "Pictures of $* at full size in bf16" -o benchmarks/results/$*-pictures-bf16.json

# what was exported by other code is exported anew
.cache/bench/demo-batches: $(EXPORTER) | .venv/ready
	rm -rf $@
	$(BUILDER)calotype-export build demo/text-to-image --batch 1,2,4 -o $@

.cache/bench/demo-%: $(EXPORTER) | .venv/ready
	rm -rf $@
	$(BUILDER)calotype-export build demo/text-to-image --precision $* -o $@

.cache/bench/%-fp32: $(EXPORTER) | .cache/bench/%
	rm -rf $@
	$(BUILDER)calotype-export build .cache/bench/$* --precision fp32 -o $@

.cache/bench/%-bf16: $(EXPORTER) | .cache/bench/%
	rm -rf $@
	$(BUILDER)calotype-export build .cache/bench/$* --precision bf16 -o $@

$(FULL:%=.cache/bench/%): | .venv/ready
	$(BUILDER)calotype-export synthetic $(@F) -o $@

compile-check: .venv/ready  ## compile the full-size models with TensorRT-RTX, which needs no GPU: time, memory, fusion
	$(BUILDER)python benchmarks/compile_check.py -o benchmarks/results/compile-check.json

launches: .venv/ready $(CUDA_RUNTIME)  ## count what ONNX Runtime launches on a GPU for full-size models, without one
	$(BUILDER)python benchmarks/launches.py -o benchmarks/results/launches.json

ifeq ($(origin PYTHON),file)
gpu: .venv-gpu/ready  ## everything that needs a GPU: tests, then latency beside eager diffusers (PYTHON=python3 installs nothing)
	.venv-gpu/bin/python -m calotype_bench.gpu -o benchmarks/results
else
gpu:
	PYTHONPATH=engine:export:benchmarks:$$PYTHONPATH $(PYTHON) -m calotype_bench.gpu -o benchmarks/results
endif

.cache/onnxruntime-gpu/ready: .venv/ready constraints.txt
	rm -rf $(@D)
	$(BUILDER)pip install --quiet --no-deps --constraint constraints.txt --target $(@D) onnxruntime-gpu
	touch $@

build: .venv/ready  ## a wheel, in dist/
	$(BUILDER)pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what the other targets made, the environments included
	rm -rf .venv .venv-runtime .venv-gpu .cache build dist demo/out

# torch comes first or in the same command: what depends on it would otherwise choose its own build
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BUILDER)pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch)
	$(BUILDER)pip install --quiet --constraint constraints.txt torch \
		--editable '.[export,onnxruntime,openvino,plot,demo,bench,check]'
	touch $@

.venv-runtime/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-runtime
	$(RUNTIME)pip install --quiet --constraint constraints.txt --editable '.[onnxruntime,openvino,plot]' \
		pytest pytest-timeout pytest-xdist hypothesis onnx
	touch $@

# as .venv, with ONNX Runtime for CUDA in place of the one for CPUs: both fill the same folder
.venv-gpu/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-gpu
	$(if $(TORCH_INDEX),.venv-gpu/bin/pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch)
	.venv-gpu/bin/pip install --quiet --constraint constraints.txt torch --editable '.[bench,check]'
	.venv-gpu/bin/pip uninstall --quiet --yes onnxruntime
	.venv-gpu/bin/pip install --quiet --constraint constraints.txt onnxruntime-gpu
	touch $@
