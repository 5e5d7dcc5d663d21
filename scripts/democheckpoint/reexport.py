#!/usr/bin/python3
"""Writes a checkpoint that sift exported once more, as PyTorch's exporter writes the same model.

  scripts/democheckpoint/reexport.py testdata/demo/sift-small.onnx testdata/demo/sift-small-torch.onnx

The weights of the first file, one that `onnx.Build` wrote, go into modules with Hugging Face's names
(bert.embeddings..., cls.predictions..., cls.seq_relationship), and torch.onnx.export (TorchScript) writes those
with constant folding and dynamic axes. So the second file holds the same weights in another exporter's
layout: a Linear over [batch, sequence] becomes a MatMul with a transposed initializer onnx::MatMul_N, its name
lost; LayerNorm is spelled out; positions are a folded constant; shapes are computed.

The decoder is applied to rows, [batch x sequence, H], which the exporter writes as a Gemm with transB=1 that reads
the word embeddings themselves. As a MatMul, folding would store a second, transposed copy of the largest tensor.

If the first file stores its matrices in float16, so does the second: one pass over torch's bytes replaces each
float32 initializer of rank 2 by a float16 one, NAME_fp16, and a Cast to float32 named NAME, as the common
float16 converters do. It refuses values that float16 would change, so both files hold the same weights bit for
bit. Nothing else of torch's bytes is touched; metadata_props say that the pass was there. Storing float16
parameters in the modules instead does not work: folding computes the casts and writes float32.

Before anything is written, both graphs are run in ONNX Runtime on two shapes of input and held to what the
modules compute in float64, if node and scripts/ort/node_modules are there (scripts/test installs them).

It needs python3-torch of Debian; the file is a function of the first file, this script, the modules of
scripts/fixtures and the torch version. sift itself, its tests and its demo do not need it.
"""

import argparse
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "fixtures"))
import bert  # noqa: E402
import tensors as wire  # noqa: E402

LARGEST = 24 << 20  # bytes that the repository takes
DTYPES = {wire.FLOAT: "<f4", wire.FLOAT16: "<f2", wire.INT64: "<i8"}
MODEL_METADATA = 14
ATTRIBUTE_NAME, ATTRIBUTE_F = 1, 2


class Stop(Exception):
    """What ends the script with one line."""


class Predictions(nn.Module):
    """The masked-language-model head, [B,S,H] to [B,S,V], its decoder applied to rows and tied to `word`."""

    def __init__(self, config, word):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(config.vocab))
        self.transform = bert.Transform(config)
        self.decoder = nn.Linear(config.hidden, config.vocab, bias=False)
        self.decoder.weight = word

    def forward(self, x):
        y = self.transform(x)
        rows = F.linear(y.reshape(-1, y.size(2)), self.decoder.weight, self.bias)
        return rows.view(x.size(0), x.size(1), rows.size(1))


def read(path):
    """The initializers {name: array} and the nodes [(operator, {attribute: float})] of an ONNX file."""
    graph = wire.fields(wire.first(wire.fields(path.read_bytes()), wire.MODEL_GRAPH, b""))
    weights, nodes = {}, []
    for number, value in graph:
        parts = wire.fields(value) if number in (wire.GRAPH_INITIALIZER, wire.GRAPH_NODE) else []
        if number == wire.GRAPH_INITIALIZER:
            name, dtype = wire.first(parts, wire.TENSOR_NAME).decode(), wire.first(parts, wire.TENSOR_TYPE)
            raw = wire.first(parts, wire.TENSOR_RAW)
            if dtype not in DTYPES or raw is None:
                raise Stop(f"{path}: initializer {name}: not raw float32, float16 or int64; this is no file of onnx.Build")
            weights[name] = np.frombuffer(raw, DTYPES[dtype]).reshape(wire.dims(parts))
        elif number == wire.GRAPH_NODE:
            attributes = [wire.fields(v) for n, v in parts if n == wire.NODE_ATTRIBUTE]
            floats = {wire.first(a, ATTRIBUTE_NAME).decode(): np.frombuffer(wire.first(a, ATTRIBUTE_F)[1], "<f4")[0]
                      for a in attributes if wire.first(a, ATTRIBUTE_F)}
            nodes.append((wire.first(parts, wire.NODE_OP).decode(), floats))
    return weights, nodes


def describe(path, weights, nodes):
    """The configuration of a file, from its shapes, constants and operators."""
    try:
        word = weights["bert.embeddings.word_embeddings.weight"]
        masked = float(weights["attention.masked"])
        eps = next(floats["epsilon"] for op, floats in nodes if op == "LayerNormalization")
        config = bert.Config(
            layers=sum(n.endswith("attention.self.query.weight") for n in weights),
            hidden=word.shape[1], heads=int(weights["attention.heads"][2]),
            intermediate=weights["bert.encoder.layer.0.intermediate.dense.weight"].shape[0], vocab=word.shape[0],
            positions=weights["bert.embeddings.position_embeddings.weight"].shape[0],
            type_vocab=weights["bert.embeddings.token_type_embeddings.weight"].shape[0],
            eps=float(f"{eps:.6g}"), activation="gelu_erf" if any(op == "Erf" for op, _ in nodes) else "gelu_tanh",
            mask={bert.FLOAT_MIN: "finfo", -10000.0: "minus10000"}[masked])
    except (KeyError, StopIteration) as e:
        raise Stop(f"{path}: no {e}: not a pre-training model that onnx.Build wrote") from None
    return config


def assemble(path, weights, config):
    """The module with the file's weights, every parameter of both accounted for."""
    model = bert.Bert(config).eval()
    model.cls.predictions = Predictions(config, model.bert.embeddings.word_embeddings.weight)
    state = {n: torch.from_numpy(v.astype(np.float32)) for n, v in weights.items() if v.dtype != np.int64 and v.ndim}
    wanted = dict(model.named_parameters())
    extra, missing = sorted(state.keys() - wanted.keys()), sorted(wanted.keys() - state.keys())
    if extra or missing:
        raise Stop(f"{path}: parameters without a place: {extra}; not found: {missing}")
    with torch.no_grad():
        for name, p in wanted.items():
            if p.shape != state[name].shape:
                raise Stop(f"{path}: {name}: shape {list(state[name].shape)}, not {list(p.shape)}")
            p.copy_(state[name])
    return model.eval()


def inputs(config, size, length, seed):
    """input_ids, attention_mask (padding at the ends and one hole) and token_type_ids, int64 [size, length]."""
    rng = np.random.Generator(np.random.PCG64(seed))
    mask = (np.arange(length)[None] < rng.integers(length // 2, length + 1, (size, 1))).astype(np.int64)
    mask[0, 1] = 0
    types = np.broadcast_to(np.arange(length) >= length // 2, (size, length)).astype(np.int64)
    return {"input_ids": rng.integers(0, config.vocab, (size, length)), "attention_mask": mask, "token_type_ids": types}


def export(model, opset):
    """The bytes that torch.onnx.export writes, constants folded, batch and sequence symbolic."""
    example = inputs(model.config, 2, 7, 1)
    axes = {name: {0: "batch", 1: "sequence"} for name in (*example, "prediction_logits")}
    axes["seq_relationship_logits"] = {0: "batch"}
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, tuple(map(torch.from_numpy, example.values())), out, opset_version=opset,
                          do_constant_folding=True, input_names=list(example),
                          output_names=["prediction_logits", "seq_relationship_logits"], dynamic_axes=axes)
    return out.getvalue()


def halve(blob):
    """A copy whose float32 initializers of rank 2 are stored as float16 with a Cast behind them."""
    model = wire.fields(blob)
    casts, graph = [], []
    for number, value in wire.fields(wire.first(model, wire.MODEL_GRAPH)):
        parts = wire.fields(value) if number == wire.GRAPH_INITIALIZER else []
        if parts and wire.first(parts, wire.TENSOR_TYPE) == wire.FLOAT and len(wire.dims(parts)) == 2:
            name = wire.first(parts, wire.TENSOR_NAME).decode()
            x = np.frombuffer(wire.first(parts, wire.TENSOR_RAW), "<f4").reshape(wire.dims(parts))
            with np.errstate(over="ignore"):
                narrow = x.astype("<f2")
            if not np.array_equal(narrow.astype("<f4").view("<u4"), x.view("<u4")):
                raise Stop(f"initializer {name}: float16 would change its values")
            value = wire.tensor(name + "_fp16", wire.FLOAT16, narrow)
            casts.append((wire.GRAPH_NODE, wire.node("Cast", [name + "_fp16"], [name], "Cast_" + name, to=wire.FLOAT)))
        graph.append((number, value))
    parts = [(n, wire.message(*casts, *graph) if n == wire.MODEL_GRAPH else v) for n, v in model]
    said = "initializers of rank 2, after the export, by scripts/democheckpoint/reexport.py"
    return wire.message(*parts, (MODEL_METADATA, wire.message((1, "float16"), (2, said))))


def examine(blob, config):
    """Stops unless the file is what it is meant to be; returns a line about it."""
    model = wire.fields(blob)
    graph = wire.fields(wire.first(model, wire.MODEL_GRAPH))
    shapes = {}
    for number, value in graph:
        if number == wire.GRAPH_INITIALIZER:
            parts = wire.fields(value)
            shapes[wire.first(parts, wire.TENSOR_NAME).decode()] = tuple(wire.dims(parts))
    folded = [n for n in shapes if n.startswith("onnx::MatMul_")]
    tables = [n for n, s in shapes.items() if sorted(s) == sorted((config.vocab, config.hidden))]
    if wire.first(model, wire.MODEL_PRODUCER) != b"pytorch":
        raise Stop("the producer is not pytorch")
    if len(folded) != 6 * config.layers + 1:  # six linears a layer, and the transform
        raise Stop(f"{len(folded)} folded initializers, not {6 * config.layers + 1}")
    if len(tables) != 1:
        raise Stop(f"the word embeddings are stored {len(tables)} times: {tables}")
    if len(blob) > LARGEST:
        raise Stop(f"{len(blob)} bytes; the repository takes {LARGEST}")
    return f"{len(blob)} bytes, {len(folded)} folded onnx::MatMul_ initializers"


def check(model, files):
    """Runs the files in ONNX Runtime and holds their outputs to the modules' in float64; a line about it."""
    node, runner = shutil.which("node"), ROOT / "scripts" / "ort" / "check.mjs"
    if not node or not (runner.parent / "node_modules" / "onnxruntime-node").is_dir():
        return "not checked: no node, or no scripts/ort/node_modules"
    double, cases = bert.Bert(model.config).eval(), []
    double.cls.predictions = Predictions(model.config, double.bert.embeddings.word_embeddings.weight)
    double.load_state_dict(model.state_dict())
    double.double()
    for size, length in ((2, 7), (3, 12)):
        given = inputs(model.config, size, length, 2)
        with torch.no_grad():
            out = double(*map(torch.from_numpy, given.values()))
        cases.append({
            "name": f"{size}x{length}",
            "inputs": {n: {"type": "int64", "dims": list(v.shape), "data": v.ravel().tolist()} for n, v in given.items()},
            "outputs": {n: {"dims": list(v.shape), "data": v.ravel().tolist()}
                        for n, v in zip(("prediction_logits", "seq_relationship_logits"), out)}})
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump({"atol": 1e-4, "rtol": 1e-4, "cases": cases}, f)
        f.flush()
        got = subprocess.run([node, runner, *(a for file in files for a in (file, f.name))], capture_output=True, text=True)
    lines = [json.loads(line) for line in got.stdout.splitlines()]
    if got.returncode or len(lines) != len(cases) * len(files):
        raise Stop(f"ONNX Runtime: {got.stderr.strip() or [c for c in lines if not c['ok']]}")
    worst = max(o["max_abs"] for c in lines for o in c["outputs"].values())
    return f"ONNX Runtime gives the modules' outputs on both files, largest difference {worst:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, help="a pre-training model that sift built")
    parser.add_argument("target", type=pathlib.Path, help="the file to write")
    parser.add_argument("--opset", type=int, default=14)
    args = parser.parse_args()
    torch.set_num_threads(1)

    weights, nodes = read(args.source)
    config = describe(args.source, weights, nodes)
    model = assemble(args.source, weights, config)
    blob = export(model, args.opset)
    if weights["bert.embeddings.word_embeddings.weight"].dtype == np.float16:
        blob = halve(blob)
    about = examine(blob, config)
    aside = args.target.with_name(args.target.name + ".tmp")
    try:
        with open(aside, "wb") as f:
            f.write(blob)
            f.flush()
            os.fsync(f.fileno())
        checked = check(model, [args.source, aside])
        os.replace(aside, args.target)
    finally:
        aside.unlink(missing_ok=True)
    print(f"{args.target}: torch {torch.__version__}, operator set {args.opset}, {about}\n{checked}")


if __name__ == "__main__":
    try:
        main()
    except (Stop, OSError) as e:
        sys.exit(f"reexport: {e}")
