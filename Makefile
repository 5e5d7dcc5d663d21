# make demo   import a small BERT, fine-tune it with SIFT, export it, prove the export
# make test   every test, with what each part took
# make        build ./sift
# make cuda   build ./sift with the CUDA backend; needs gcc, neither CUDA nor a GPU
# make cuda-check   on a machine with an NVIDIA GPU: everything that can be checked and timed, into one file
.PHONY: all build cuda cuda-check demo test fixtures clean

all: build

build:
	go build -o sift .

cuda:
	@eval "$$(scripts/cuda/driver)" && go build -tags cuda -o sift .

cuda-check:
	@scripts/cuda/check

# MODEL=minilm takes all-MiniLM-L6-v2, MODEL=path another ONNX file, TOKENIZER=path its tokenizer.
demo: build
	@scripts/demo

test:
	@scripts/test

# Rewrites testdata/onnx and testdata/golden with PyTorch (Debian: python3-torch).
fixtures:
	/usr/bin/python3 scripts/fixtures/export.py
	/usr/bin/python3 scripts/fixtures/goldens.py

clean:
	rm -rf sift build
