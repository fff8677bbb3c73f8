# Every target makes the virtual environments that it needs. Set PYTHON to choose an interpreter (3.11 or newer),
# TORCH_INDEX to take torch from another index, for example one with CPU builds, and in a fresh clone
# CONSTRAINTS=constraints-lowest.txt to take the lowest versions that pyproject.toml allows.

PYTHON ?= python3
TORCH_INDEX ?=
CONSTRAINTS ?= constraints.txt
BUILDER := .venv/bin/
RUNTIME := .venv-runtime/bin/
BUNDLES := .cache/test-bundles
DEMO := fp32 bf16 batches
OTHERS := inpainting-fp32 inpainting-bf16 depth-fp32 depth-bf16
FULL := sd15 sd21-base
EXPORTER := $(wildcard export/calotype_export/*.py)
# ONNX Runtime for CUDA, whose provider some tests open without a GPU; in a folder of its own, since pip would put it in
# place of the one for CPUs
CUDA_RUNTIME := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),.cache/onnxruntime-gpu/ready)
# tests run in two processes of one thread each: tracing has only one, and is most of the time
BESIDE := --numprocesses 2 --dist loadfile
test: export OMP_NUM_THREADS := 1

.SECONDARY:
.PHONY: help demo test check fix parity score bench bench-tasks bench-full compile-check launches gpu build clean

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

# what is measured here lies beside the bundles; RESULTS=benchmarks/results puts it in place of what the pages show
RESULTS ?= .cache/bench/results
PAGES = $(if $(filter $(abspath benchmarks/results),$(abspath $(RESULTS))),$(BUILDER)calotype-bench tables README.md benchmarks/*.md)
# where torch comes from another index, it does for the peers' environments too
bench bench-tasks $(FULL:%=bench-%): export PIP_EXTRA_INDEX_URL := $(strip $(TORCH_INDEX) $(PIP_EXTRA_INDEX_URL))

bench: .venv/ready $(DEMO:%=.cache/bench/demo-%) | $(RESULTS)  ## the demo checkpoint beside its peers: latency, fidelity, report
	$(BUILDER)calotype-bench latency .cache/bench/demo-fp32 .cache/bench/demo-bf16 --backend openvino \
		--against onnxruntime,$(PEERS),stable-diffusion.cpp --checkpoint demo/text-to-image $(DRAWN) --steps 10,20 --runs 12 \
		--title "The demo checkpoint" -o $(RESULTS)/demo.json
	$(BUILDER)calotype-bench latency .cache/bench/demo-batches --backend openvino --against eager \
		--checkpoint demo/text-to-image $(DRAWN) --steps 10 --batch 1,2,4 --runs 6 --no-operators \
		--title "The demo checkpoint, several pictures at once" -o $(RESULTS)/demo-batches.json
	$(BUILDER)calotype-bench compare .cache/bench/demo-fp32 --backend openvino,onnxruntime $(COMPARED) --noise fp64,bf16 \
		--title "Pictures of the demo checkpoint" -o $(RESULTS)/demo-pictures.json
	$(BUILDER)calotype-bench compare .cache/bench/demo-bf16 --backend openvino --beside compile-bf16,optimum-intel-bf16 $(COMPARED) \
		--title "Pictures of the demo checkpoint in bf16" -o $(RESULTS)/demo-pictures-bf16.json
	for precision in fp32 bf16; do $(BUILDER)calotype-bench techniques .cache/bench/demo-$$precision --runs 30 \
		--title "What rewriting gains, the demo checkpoint in $$precision" \
		-o $(RESULTS)/demo-techniques-$$precision.json || exit 1; done
	$(BUILDER)calotype-bench report $(RESULTS)/demo*.json -o .cache/bench/report.html
	$(PAGES)

bench-tasks: .venv/ready $(OTHERS:%=.cache/bench/demo-%) .cache/bench/demo-fp32 .cache/bench/demo-bf16 | $(RESULTS)  ## the demo checkpoints from a picture: image-to-image, inpainting, depth
	$(BUILDER)calotype-bench latency .cache/bench/demo-fp32 .cache/bench/demo-bf16 --checkpoint demo/text-to-image $(FROM_PICTURE) \
		--title "The demo checkpoint, image-to-image" -o $(RESULTS)/demo-image-to-image.json
	$(BUILDER)calotype-bench latency .cache/bench/demo-inpainting-fp32 .cache/bench/demo-inpainting-bf16 \
		--checkpoint demo/inpainting $(FROM_PICTURE) --mask benchmarks/pictures/mask.png \
		--title "The demo's inpainting checkpoint" -o $(RESULTS)/demo-inpainting.json
	$(BUILDER)calotype-bench latency .cache/bench/demo-depth-fp32 .cache/bench/demo-depth-bf16 --checkpoint demo/depth $(FROM_PICTURE) \
		--title "The demo's depth checkpoint" -o $(RESULTS)/demo-depth-to-image.json
	$(PAGES)

$(RESULTS):
	mkdir -p $@

# at full size one engine at a time is in memory; many hours on two cores: STEPS=2 RUNS=3 makes it less, without intervals
STEPS ?= 20
RUNS ?= 6
PEERS := eager,eager-bf16,compile,compile-bf16,optimum-intel,optimum-intel-bf16,optimum-onnx
# a caption that the demo checkpoints draw, with the guidance that suits them
DRAWN := --prompt "a large red star in the centre on a mint background" --guidance-scale 2.5
FROM_PICTURE := --backend openvino --against $(PEERS) --image benchmarks/pictures/scene.png $(DRAWN) --steps 20 --runs 12 --no-operators
COMPARED := --against demo/text-to-image --prompts benchmarks/prompts.txt --seeds 1,2,3,4 --pictures 1
COMPARED_FULL = --against .cache/bench/$* --prompts benchmarks/prompts.txt --steps $(STEPS) --pictures 0

bench-full: $(FULL:%=bench-%)  ## the same on random weights of sd15 and sd21-base at full size: hours
	$(BUILDER)calotype-bench report $(FULL:%=$(RESULTS)/%*.json) -o .cache/bench/report-full.html
	$(PAGES)

$(FULL:%=bench-%): bench-%: .cache/bench/%-fp32 .cache/bench/%-bf16 | $(RESULTS)
	$(BUILDER)calotype-bench latency .cache/bench/$*-fp32 .cache/bench/$*-bf16 --backend openvino \
		--against onnxruntime,$(PEERS),stable-diffusion.cpp --checkpoint .cache/bench/$* --steps $(STEPS) --runs $(RUNS) --one-at-a-time \
		--title "$* at full size, random weights" -o $(RESULTS)/$*.json
	$(BUILDER)calotype-bench compare .cache/bench/$*-fp32 --backend openvino $(COMPARED_FULL) \
		--title "Pictures of $* at full size in fp32" -o $(RESULTS)/$*-pictures-fp32.json
	$(BUILDER)calotype-bench compare .cache/bench/$*-bf16 --backend openvino --beside compile-bf16,optimum-intel-bf16 \
		$(COMPARED_FULL) --title "Pictures of $* at full size in bf16" -o $(RESULTS)/$*-pictures-bf16.json

# what was exported by other code is exported anew
.cache/bench/demo-batches: $(EXPORTER) | .venv/ready
	rm -rf $@
	$(BUILDER)calotype-export build demo/text-to-image --batch 1,2,4 -o $@

$(OTHERS:%=.cache/bench/demo-%): .cache/bench/demo-%: $(EXPORTER) | .venv/ready
	rm -rf $@
	$(BUILDER)calotype-export build demo/$(word 1,$(subst -, ,$*)) --precision $(word 2,$(subst -, ,$*)) -o $@

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

compile-check: .venv/ready | $(RESULTS)  ## compile the full-size models with TensorRT-RTX, which needs no GPU: time, memory, fusion
	$(BUILDER)python benchmarks/compile_check.py -o $(RESULTS)/compile-check.json

launches: .venv/ready $(CUDA_RUNTIME) | $(RESULTS)  ## count what ONNX Runtime launches on a GPU for full-size models, without one
	$(BUILDER)python benchmarks/launches.py -o $(RESULTS)/launches.json

ifeq ($(origin PYTHON),file)
gpu: .venv-gpu/ready | $(RESULTS)  ## everything that needs a GPU: tests, then latency beside eager diffusers (PYTHON=python3 installs nothing)
	.venv-gpu/bin/python -m calotype_bench.gpu -o $(RESULTS)
else
gpu: | $(RESULTS)
	PYTHONPATH=engine:export:benchmarks:$$PYTHONPATH $(PYTHON) -m calotype_bench.gpu -o $(RESULTS)
endif

.cache/onnxruntime-gpu/ready: .venv/ready $(CONSTRAINTS)
	rm -rf $(@D)
	$(BUILDER)pip install --quiet --no-deps --constraint $(CONSTRAINTS) --target $(@D) onnxruntime-gpu
	touch $@

build: .venv/ready  ## a wheel, in dist/
	$(BUILDER)pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what the other targets made, environments and measurements included
	rm -rf .venv .venv-runtime .venv-gpu .cache build dist demo/out

# torch comes first or in the same command: what depends on it would otherwise choose its own build
.venv/ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BUILDER)pip install --quiet --constraint $(CONSTRAINTS) --index-url $(TORCH_INDEX) torch)
	$(BUILDER)pip install --quiet --constraint $(CONSTRAINTS) torch \
		--editable '.[export,onnxruntime,openvino,plot,demo,bench,check]'
	touch $@

.venv-runtime/ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv-runtime
	$(RUNTIME)pip install --quiet --constraint $(CONSTRAINTS) --editable '.[onnxruntime,openvino,plot]' \
		pytest pytest-timeout pytest-xdist hypothesis onnx
	touch $@

# as .venv, with ONNX Runtime for CUDA in place of the one for CPUs: both fill the same folder
.venv-gpu/ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv-gpu
	$(if $(TORCH_INDEX),.venv-gpu/bin/pip install --quiet --constraint $(CONSTRAINTS) --index-url $(TORCH_INDEX) torch)
	.venv-gpu/bin/pip install --quiet --constraint $(CONSTRAINTS) torch --editable '.[bench,check]'
	.venv-gpu/bin/pip uninstall --quiet --yes onnxruntime
	.venv-gpu/bin/pip install --quiet --constraint $(CONSTRAINTS) onnxruntime-gpu
	touch $@
