"""The peer of `sift bench step`: one pre-training step of BERT in PyTorch on the CPU, float32.

Masked-LM and next-sentence loss, 15% of each sequence labelled, dropout on embeddings, attention
probabilities and both outputs of a layer, gradients clipped to a global norm of 1, AdamW. Weights start as
BERT's do (normal, standard deviation 0.02): with PyTorch's own start the tied decoder's logits are so large
that most probabilities are denormal numbers, and the backward pass takes twice as long.

scripts/peers/pretrain starts this and sets its environment. After a line of JSON about itself it reads lines
from standard input, "all COUNT" (logits on every row, as Hugging Face's model computes them) or "masked COUNT"
(on labelled rows only), runs one step off the clock and COUNT on it, and answers each with a line of JSON: the
seconds of forward, backward and optimiser (clipping included) of each step.
"""

import argparse
import json
import sys
import time

import torch
from torch import nn
import torch.nn.functional as F


class Layer(nn.Module):
    """One post-LayerNorm block, [B,S,H] to [B,S,H]; query, key and value in one matrix."""

    def __init__(self, args):
        super().__init__()
        self.heads, self.dropout = args.heads, args.dropout
        self.qkv = nn.Linear(args.hidden, 3 * args.hidden)
        self.out = nn.Linear(args.hidden, args.hidden)
        self.norm1 = nn.LayerNorm(args.hidden, 1e-12)
        self.up = nn.Linear(args.hidden, 4 * args.hidden)
        self.down = nn.Linear(4 * args.hidden, args.hidden)
        self.norm2 = nn.LayerNorm(args.hidden, 1e-12)

    def forward(self, x):
        size, length, hidden = x.shape
        q, k, v = self.qkv(x).view(size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        p = ((q * (hidden // self.heads) ** -0.5) @ k.transpose(-1, -2)).softmax(-1)
        context = (F.dropout(p, self.dropout) @ v).transpose(1, 2).reshape(size, length, hidden)
        x = self.norm1(x + F.dropout(self.out(context), self.dropout))
        return self.norm2(x + F.dropout(self.down(F.gelu(self.up(x))), self.dropout))


class Bert(nn.Module):
    """Encoder, pooler, masked-LM head tied to the word embeddings, next-sentence head. No mask: there is
    no padding."""

    def __init__(self, args):
        super().__init__()
        self.dropout = args.dropout
        self.word = nn.Embedding(args.vocab, args.hidden)
        self.position = nn.Embedding(512, args.hidden)
        self.token_type = nn.Embedding(2, args.hidden)
        self.norm = nn.LayerNorm(args.hidden, 1e-12)
        self.layers = nn.ModuleList(Layer(args) for _ in range(args.layers))
        self.pooler = nn.Linear(args.hidden, args.hidden)
        self.next_sentence = nn.Linear(args.hidden, 2)
        self.transform = nn.Linear(args.hidden, args.hidden)
        self.transform_norm = nn.LayerNorm(args.hidden, 1e-12)
        self.bias = nn.Parameter(torch.zeros(args.vocab))
        for m in self.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                nn.init.normal_(m.weight, std=0.02)
            if isinstance(m, nn.Linear):
                nn.init.zeros_(m.bias)

    def forward(self, ids, types, labels, following, masked):
        """The sum of both losses; labels [B,S] are -100 where there is none, following is [B]."""
        x = self.word(ids) + self.position.weight[:ids.shape[1]] + self.token_type(types)
        x = F.dropout(self.norm(x), self.dropout)
        for layer in self.layers:
            x = layer(x)
        rows, labels = x.flatten(0, 1), labels.flatten()
        if masked:
            at = (labels != -100).nonzero().squeeze(1)
            rows, labels = rows[at], labels[at]
        y = self.transform_norm(F.gelu(self.transform(rows)))
        loss = F.cross_entropy(F.linear(y, self.word.weight, self.bias), labels, ignore_index=-100)
        return loss + F.cross_entropy(self.next_sentence(torch.tanh(self.pooler(x[:, 0]))), following)


def adamw(parameters):
    """AdamW and how it was made: fused where this torch has that for the CPU (2.4), else foreach."""
    try:
        return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01, fused=True), "fused"
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01, foreach=True), "foreach"


def batch(args):
    """ids, types, labels [B,S] and following [B]; int(0.15 S) labels in each sequence."""
    ids = torch.randint(1000, args.vocab, (args.batch, args.length))
    labels = torch.full_like(ids, -100)
    for i in range(args.batch):
        at = torch.randperm(args.length)[:max(1, args.length * 15 // 100)]
        labels[i, at] = ids[i, at]
    types = (torch.arange(args.length) >= args.length // 2).long().expand_as(ids)
    return ids, types, labels, torch.randint(0, 2, (args.batch,))


def step(model, optimizer, parameters, inputs, masked):
    """Seconds of forward, backward and optimiser."""
    marks = [time.perf_counter()]
    optimizer.zero_grad(set_to_none=True)
    loss = model(*inputs, masked)
    marks.append(time.perf_counter())
    loss.backward()
    marks.append(time.perf_counter())
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    marks.append(time.perf_counter())
    return [b - a for a, b in zip(marks, marks[1:])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("layers", 12), ("hidden", 768), ("heads", 12), ("vocab", 30522), ("batch", 8),
                        ("length", 128), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--dropout", type=float, default=0.1)
    args = parser.parse_args()

    torch.set_flush_denormal(True)  # before the first parallel region: its threads inherit it
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model, inputs = Bert(args).train(), batch(args)
    parameters = list(model.parameters())
    optimizer, kind = adamw(parameters)
    print(json.dumps({"torch": torch.__version__, "adamw": kind, "mkl": torch.backends.mkl.is_available()}), flush=True)
    for line in sys.stdin:
        rows, count = line.split()
        seconds = [step(model, optimizer, parameters, inputs, rows == "masked") for _ in range(int(count) + 1)]
        print(json.dumps(seconds[1:]), flush=True)


if __name__ == "__main__":
    main()
