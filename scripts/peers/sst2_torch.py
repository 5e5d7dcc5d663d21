#!/usr/bin/python3
"""The peer of `sift finetune`: a BERT encoder fine-tuned for classification in PyTorch on the CPU.

The recipe is sift's: a fresh pooler and classifier (normal, standard deviation 0.02, biases 0) on the
encoder, dropout on the embeddings, on attention probabilities, on both outputs of a layer and before the
classifier, AdamW with decay on matrices and embeddings only, linear warm-up and decay, clipping of the
global norm. Batches are drawn from a fresh shuffle every epoch and padded to their longest sequence;
--bucket K first sorts every K batches of the shuffle by length, the usual way to save padding.

  scripts/peers/sst2_torch.py --model all-MiniLM-L6-v2.safetensors --train train.tsv --test test.tsv --seeds 1,2,3

It needs python3-torch and libopenblas0-pthread of Debian, and starts itself again in the environment in which
they are fast (tuned.py).

Prints one JSON object a line for every seed: accuracy on --test, seconds of training (evaluation apart) and
per update. --progress N also prints the loss on standard error every N updates.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
import zipfile

from tuned import restart_tuned

TUNED = restart_tuned() if __name__ == "__main__" else {}

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "fixtures"))
import tensors as files  # noqa: E402
from wordpiece import WordPiece  # noqa: E402


def load(path):
    """{Hugging Face's name without a leading "bert.": array} of a safetensors file, or of the
    model.safetensors in a zip archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as z:
            blob = z.read(next(n for n in z.namelist() if n.endswith("model.safetensors")))
        weights = files.parse_safetensors(blob)
    else:
        weights = files.read_safetensors(path)
    return {name.removeprefix("bert."): value for name, value in weights.items()}


class Layer(nn.Module):
    """One post-LayerNorm block; query, key and value in one matrix."""

    def __init__(self, w, prefix, heads, args):
        super().__init__()
        self.heads, self.args = heads, args
        part = "attention.self."
        self.qkv = linear(np.concatenate([w[f"{prefix}{part}{n}.weight"] for n in ("query", "key", "value")]),
                          np.concatenate([w[f"{prefix}{part}{n}.bias"] for n in ("query", "key", "value")]))
        self.out = linear(w[prefix + "attention.output.dense.weight"], w[prefix + "attention.output.dense.bias"])
        self.norm1 = layer_norm(w, prefix + "attention.output.LayerNorm")
        self.up = linear(w[prefix + "intermediate.dense.weight"], w[prefix + "intermediate.dense.bias"])
        self.down = linear(w[prefix + "output.dense.weight"], w[prefix + "output.dense.bias"])
        self.norm2 = layer_norm(w, prefix + "output.LayerNorm")

    def forward(self, x, mask):
        size, length, hidden = x.shape
        q, k, v = self.qkv(x).view(size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q * (hidden // self.heads) ** -0.5) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores + mask
        p = F.dropout(scores.softmax(-1), self.args.attention_dropout, self.training)
        context = (p @ v).transpose(1, 2).reshape(size, length, hidden)
        x = self.norm1(x + F.dropout(self.out(context), self.args.dropout, self.training))
        return self.norm2(x + F.dropout(self.down(F.gelu(self.up(x))), self.args.dropout, self.training))


class Classifier(nn.Module):
    """The encoder of a weights file, a pooler and a classifier."""

    def __init__(self, w, classes, args):
        super().__init__()
        self.args = args
        self.word = embedding(w["embeddings.word_embeddings.weight"])
        self.position = embedding(w["embeddings.position_embeddings.weight"])
        self.token_type = embedding(w["embeddings.token_type_embeddings.weight"])
        self.norm = layer_norm(w, "embeddings.LayerNorm")
        count = 1 + max(int(n.split(".")[2]) for n in w if n.startswith("encoder.layer."))
        self.layers = nn.ModuleList(Layer(w, f"encoder.layer.{i}.", args.heads, args) for i in range(count))
        hidden = self.word.weight.shape[1]
        if args.pooler == "stored":
            self.pooler = linear(w["pooler.dense.weight"], w["pooler.dense.bias"])
        else:
            self.pooler = fresh(hidden, hidden)
        self.classifier = fresh(hidden, classes)

    def forward(self, ids, lengths):
        length = ids.shape[1]
        x = self.norm(self.word(ids) + self.position.weight[:length] + self.token_type.weight[0])
        x = F.dropout(x, self.args.dropout, self.training)
        mask = None
        if int(lengths.min()) < length:
            padded = torch.arange(length)[None] >= lengths[:, None]
            mask = torch.zeros(padded.shape).masked_fill(padded, torch.finfo(torch.float32).min)[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return self.classifier(F.dropout(pooled, self.args.dropout, self.training))


def linear(weight, bias):
    """A Linear with the given [out,in] weight."""
    m = nn.Linear(weight.shape[1], weight.shape[0])
    m.weight.data, m.bias.data = torch.tensor(weight), torch.tensor(bias)
    return m


def fresh(n_in, n_out):
    """A Linear drawn from normal(0, 0.02) with bias 0."""
    m = nn.Linear(n_in, n_out)
    nn.init.normal_(m.weight, std=0.02)
    nn.init.zeros_(m.bias)
    return m


def embedding(weight):
    """An Embedding with the given table."""
    return nn.Embedding.from_pretrained(torch.tensor(weight), freeze=False)


def layer_norm(w, prefix):
    """A LayerNorm with the stored gamma and beta."""
    m = nn.LayerNorm(len(w[prefix + ".weight"]), eps=1e-12)
    m.weight.data, m.bias.data = torch.tensor(w[prefix + ".weight"]), torch.tensor(w[prefix + ".bias"])
    return m


def read(path, labels):
    """(text, label id) of every row of a TSV file with the header text, label; labels maps names to ids in
    the order of first appearance."""
    with open(path, encoding="utf-8") as f:
        next(f)
        rows = [line.rstrip("\n").split("\t") for line in f]
    return [(r[0], labels.setdefault(r[1], len(labels))) for r in rows]


def encode(tokenizer, rows, max_length):
    """[(ids, label)]."""
    return [(tokenizer.encode(text, max_length), label) for text, label in rows]


def pad(examples):
    """ids [B,S] padded with 0, lengths [B], labels [B]."""
    lengths = torch.tensor([len(ids) for ids, _ in examples])
    ids = torch.zeros(len(examples), int(lengths.max()), dtype=torch.long)
    for row, (x, _) in zip(ids, examples):
        row[:len(x)] = torch.tensor(x)
    return ids, lengths, torch.tensor([label for _, label in examples])


def batches(data, args, rng):
    """An endless stream of batches; the last of an epoch may be short."""
    while True:
        order = rng.permutation(len(data))
        if args.bucket:
            width = args.bucket * args.batch
            order = np.concatenate([sorted(order[i:i + width], key=lambda j: len(data[j][0]))
                                    for i in range(0, len(order), width)])
        cut = [order[i:i + args.batch] for i in range(0, len(order), args.batch)]
        for i in rng.permutation(len(cut)) if args.bucket else range(len(cut)):
            yield pad([data[j] for j in cut[i]])


def accuracy(model, data):
    """The share of right answers, in batches of similar length."""
    model.eval()
    data, right = sorted(data, key=lambda e: len(e[0])), 0
    with torch.no_grad():
        for i in range(0, len(data), 64):
            ids, lengths, labels = pad(data[i:i + 64])
            right += int((model(ids, lengths).argmax(1) == labels).sum())
    model.train()
    return right / len(data)


def finetune(weights, train, tests, classes, seed, args):
    """One run; returns what is printed of it."""
    torch.manual_seed(seed)
    model = Classifier(weights, classes, args).train()
    spared = lambda n: n.endswith("bias") or "norm" in n
    groups = [{"params": [p for n, p in model.named_parameters() if not spared(n)], "weight_decay": args.weight_decay},
              {"params": [p for n, p in model.named_parameters() if spared(n)], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.999), eps=1e-8, foreach=True)
    total = args.updates or round(args.epochs * -(-len(train) // args.batch))
    warmup = round(args.warmup * total)
    stream, seconds, loss_sum, tokens = batches(train, args, np.random.default_rng(seed)), [], 0.0, 0
    for done in range(total):
        ids, lengths, labels = next(stream)
        start = time.perf_counter()
        rate = (done + 1) / warmup if done < warmup else (total - done) / (total - warmup)
        for g in optimizer.param_groups:
            g["lr"] = args.lr * rate
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(ids, lengths), labels)
        loss.backward()
        if args.clip:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        loss_sum += loss.item()
        seconds.append(time.perf_counter() - start)
        tokens += int(lengths.sum())
        if args.progress and (done + 1) % args.progress == 0:
            print(f"seed {seed} update {done + 1}/{total} loss {loss_sum / args.progress:.4f} "
                  f"{statistics.mean(seconds[-args.progress:]):.3f} s/update", file=sys.stderr, flush=True)
            loss_sum = 0.0
    return {"seed": seed, **{f"{name}_accuracy": accuracy(model, data) for name, data in tests.items()},
            "updates": total, "train_seconds": round(sum(seconds), 1),
            "seconds_per_update": {"mean": round(statistics.mean(seconds), 4),
                                   "median": round(statistics.median(seconds), 4)},
            "tokens_per_second": round(tokens / sum(seconds))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="safetensors with Hugging Face's names, or a zip of it")
    parser.add_argument("--vocab", default=ROOT / "testdata" / "vocab" / "vocab.txt")
    parser.add_argument("--train", required=True)
    parser.add_argument("--valid")
    parser.add_argument("--test", required=True)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--pooler", choices=("fresh", "stored"), default="fresh")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--updates", type=int, default=0, help="instead of epochs")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--warmup", type=float, default=0.1, help="share of the updates")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--attention-dropout", type=float, default=0.1)
    parser.add_argument("--bucket", type=int, default=0, help="sort every K batches by length; 0: no")
    parser.add_argument("--limit", type=int, default=0, help="train on the first rows only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--progress", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    tokenizer, labels = WordPiece(args.vocab), {}
    rows = read(args.train, labels)
    train = encode(tokenizer, rows[:args.limit or None], args.max_length)
    tests = {name: encode(tokenizer, read(path, labels), args.max_length)
             for name, path in (("valid", args.valid), ("test", args.test)) if path}
    weights = load(args.model)
    for seed in map(int, args.seeds.split(",")):
        print(json.dumps({"peer": "torch " + torch.__version__, **TUNED,
                          **finetune(weights, train, tests, len(labels), seed, args),
                          "recipe": {k: v for k, v in vars(args).items() if isinstance(v, (int, float))}}), flush=True)


if __name__ == "__main__":
    main()
