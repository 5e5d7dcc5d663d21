#!/usr/bin/env python3
"""Writes what Hugging Face's `tokenizers` makes of texts, for the tests of package text.

    pip install tokenizers==0.23.3
    golden.py sample DATA      rewrites testdata/text/golden.jsonl and unicode.json
    golden.py full DATA FILE   every line of the corpora and nasty cases by the thousand
    golden.py speed FILE       times tokenizers on the texts of such a file; for one thread:
                               TOKENIZERS_PARALLELISM=false RAYON_NUM_THREADS=1

DATA holds corpora/{sotu,austen,moby-dick,...} and labelled/{rt-polarity,...}. `sample`
reads only those that may be redistributed. To compare a full file:

    SIFT_TEXT_GOLDEN=FILE go test -run Golden ./text

A line is {"c": configuration, "t": text, "b": second text, "m": maximum length,
"i": ids, "n": how many ids have type 0, "w": normalised words, separated by spaces}.
"""
import glob
import hashlib
import json
import os
import random
import re
import sys
import time
import unicodedata

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

HERE = os.path.dirname(os.path.abspath(__file__))
TESTDATA = os.path.join(HERE, "..", "..", "testdata")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# clean_text, handle_chinese_chars, strip_accents, lowercase; text/golden_test.go has the same.
CONFIGURATIONS = {
    "uncased": (True, True, None, True),
    "cased": (True, True, None, False),
    "accents": (True, True, False, True),
    "stripped": (True, False, True, False),
    "raw": (False, False, None, True),
    "added": (True, True, None, True),
}
ADDED = [
    AddedToken("Captain Ahab", normalized=True),
    AddedToken("Élan", normalized=True, single_word=True),
    AddedToken("<left>", normalized=False, lstrip=True),
    AddedToken("<right>", normalized=False, rstrip=True),
    AddedToken("<both>", normalized=True, lstrip=True, rstrip=True),
    AddedToken("whale", normalized=False, single_word=True),
    AddedToken("whale-ship", normalized=False),
]


def tokenizer(name):
    clean, chinese, accents, lower = CONFIGURATIONS[name]
    with open(os.path.join(TESTDATA, "vocab", "vocab.txt"), encoding="utf-8") as f:
        vocab = {line.rstrip("\n"): i for i, line in enumerate(f)}
    t = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(
        clean_text=clean, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
    )
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    t.add_special_tokens(SPECIAL)
    if name == "added":
        t.add_tokens(ADDED)
    return t


TOKENIZERS = {name: tokenizer(name) for name in CONFIGURATIONS}


def words(t, s):
    return " ".join(w for w, _ in t.pre_tokenizer.pre_tokenize_str(t.normalizer.normalize_str(s)))


def case(text, second=None, maximum=0, config="uncased"):
    t = TOKENIZERS[config]
    t.no_truncation()
    if maximum:
        t.enable_truncation(maximum)
    e = t.encode(text) if second is None else t.encode(text, second)
    out = {}
    if config != "uncased":
        out["c"] = config
    out["t"] = text
    if second is not None:
        out["b"] = second
        out["n"] = e.type_ids.count(0)
    if maximum:
        out["m"] = maximum
    out["i"] = e.ids
    if config not in ("uncased", "added"):
        out["w"] = words(t, text)
    return out


NASTY = [
    "", " ", "\t\n\r", "a", "A", ".", "...", "a.b", "'", "don't", "it's 5 o'clock", "U.S.A.", "x\ty\nz\rw", "a\u00a0b",
    "[MASK]", "[mask]", "[Mask]", "the [MASK] sat", "a[MASK]b", "[MASK][MASK]", "[[MASK]]", "[ MASK ]", "[MASK", "MASK]",
    "[SEP] and [CLS] and [PAD] and [UNK]", "[CLS][SEP]", "[CLS", "[unused1]", "[UNK]ing", "x [SEP]\u0301 y", "[MASK]\u0301",
    "#", "##", "##ing", "a##ing", "# #", "\x00", "a\x00b", "\ufffd", "a\ufffdb", "\ufeffBOM first", "a\ufeffb",
    "soft\u00adhyphen", "zero\u200bwidth", "zero\u200djoiner", "a\u200eb\u200fc", "line\u2028sep\u2029par", "next\u0085line",
    "vt\x0bff\x0c", "\x1b[31mred\x1b[0m", "del\x7fete", "\x01\x02\x03", "a\x1cb\x1dc\x1ed\x1fe", "nb\u202fsp\u2007x\u3000y",
    "ogham\u1680space", "mongol\u180evowel", "\ue000private", "\U000f0000plane15", "\U000e0001\U000e0020tags", "\uffff", "\U0010ffff",
    "\u0378 unassigned", "caf\u00e9", "cafe\u0301", "CAF\u00c9", "na\u00efve fa\u00e7ade", "\u00c5ngstr\u00f6m", "\u212bngstrom", "\u212a", "\u2126",
    "\u0130stanbul", "I\u0307", "\u0131", "\u01c5", "\u03a3\u03a3", "\u039f\u0394\u039f\u03a3", "\u1f88\u1fb3", "\u03ce", "stra\u00dfe", "\u1e9e", "\ufb01ne \ufb02y", "\u0149",
    "\u0344", "\u0f73\u0f75", "\u1100\u1161\u11a8", "\uac01", "\ud55c\uad6d\uc5b4", "\ub098\ub294 \ud559\uc0dd", "\u4f60\u597d\u4e16\u754c", "a\u4e2db", "\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8", "\u30ac\u30ad\u3099", "\uff76\uff9e", "\uf900\ufa0e", "\U0002f800\U00020000\U0002a6e0\U0002b820\U0002ceb0\U00030000",
    "\u3001\u3002\u300c\u300d", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0629", "\u05e9\u05c1\u05c2\u05b8\u05dc\u05d5\u05b9\u05dd", "\u0420\u0443\u0441\u0441\u043a\u0438\u0439 \u0451\u0436", "\u0410\u0300\u0439",
    "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u263a\ufe0f", "\U0001f1ec\U0001f1e7", "\U0001d400\U0001d4d0", "\u2460\u2461", "\u00bd", "x\u00b2", "\u2122\u00ae", "\u20ac5", "$5.00", "`a`", "a^b", "a|b", "a~b", "<b>", "a=b+c", "\u2013\u2014\u2018\u2019\u201c\u201d\u2026", "\u00bfqu\u00e9?", "\u00a7\u00b6\u00b7", "\u037e", "\u1fef", "\u2329x\u232a",
    "\u0301", "\u0301\u0301a", "a\u0323\u0301", "a\u0301\u0323", "\u1d165\u0301", "x\U0001d165\U0001d16dy", "x\U0001d16d\U0001d165y", "x\U0001e002\u302ey\u302e\U0001e94a", "\u302e\x01\u16ff0\U00016ff0", "\U0001e002a\U0001e94a\x00\U0001e002",
    "a" * 99, "a" * 100, "a" * 101, "\u00e9" * 100, "\u00e9" * 101, "e\u0301" * 100, "\u4e2d" * 101, "\uac01" * 33, "\uac01" * 34, "\uac01" * 50, "\U0001f600" * 100, "\U0001f600" * 101, "unaffable" * 11, "unaffable" * 12, "x" + "\u0301" * 300, "\U0001e94a\U0001e002" * 40,
    "supercalifragilisticexpialidocious", "antidisestablishmentarianism's", "pneumonoultramicroscopicsilicovolcanoconiosis", "qqqqqqzzzzxx", "1234567890123", "3.14159e-10", "2001:db8::1", "http://example.org/a?b=c&d=%20", "e-mail@example.org", "C:\\dir\\file", "snake_case camelCase", "a_b_c", "don\u2019t", "\ua000\ua4d0", "\u10a0\u2d00\u13a0\uab70", "\u1c80\u1c90", "\ua7ae\ua7c7\ua7dc",
]
ADDED_CASES = [
    "Captain Ahab", "captain ahab", "the CAPTAIN AHAB's leg", "captain  ahab", "captain\tahab", "capt\u00e1in ahab", "xcaptain ahabx", "\u00e9lan", "elan", "elans", "ELAN!", "\u00e9lan vital, elan", "x elan\u0301",
    "a <left> b", "a  \t<left>b", "a <right>  b", "a <both> b", "a  <BOTH>  b", "<left><right><both>", "  <left>", "<right>  ", "<left>  <left>", "<right>  <right>  x", "<right> <left>", "<both>  <both>",
    "whale", "whales", "a whale.", "whale-ship", "a whale-shipx", "xwhale-ship", "Whale", "whalewhale", "whale whale", "whale_", "whale\u0301", "\u00e9whale", "whale\u200d", "[MASK]whale[SEP]", "captain [MASK] ahab", "[MASK] captain ahab [MASK]",
]


def interesting():
    """Code points near which things happen, some of every category."""
    points, seen = [], {}
    for cp in range(0x110000):
        if 0xD800 <= cp < 0xE000:
            continue
        ch = chr(cp)
        key = (unicodedata.category(ch), bool(unicodedata.decomposition(ch)), unicodedata.combining(ch), cp >> 12)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= 3 and unicodedata.category(ch) not in ("Co", "Cn") or cp < 0x250:
            points.append(ch)
    return points


def nasty(count, seed=1):
    """The listed cases, and count random mixtures of odd characters and plain words."""
    rng = random.Random(seed)
    points = interesting()
    marks = [c for c in points if unicodedata.combining(c)]
    plain = "the cat Sat on THE mat , and unbelievably ran [MASK] [SEP] away .".split()
    for text in NASTY:
        for config in CONFIGURATIONS:
            if config != "added":
                yield case(text, config=config)
    for text in ADDED_CASES:
        yield case(text, config="added")
    for i in range(count):
        parts = []
        for _ in range(rng.randint(1, 12)):
            kind = rng.random()
            if kind < 0.3:
                parts.append(rng.choice(plain))
            elif kind < 0.5:
                parts.append("".join(rng.choice(marks) for _ in range(rng.randint(1, 4))))
            elif kind < 0.6:
                parts.append(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])))
            else:
                parts.append("".join(rng.choice(points) for _ in range(rng.randint(1, 4))))
            if rng.random() < 0.4:
                parts.append(" ")
        config = ("uncased", "cased", "accents", "stripped", "raw")[i % 5]
        yield case("".join(parts), config=config)
    for i in range(count // 4):
        some = lambda: " ".join(rng.choice(plain) for _ in range(rng.randint(0, 14)))
        if i % 3 == 0:
            yield case(some(), maximum=rng.randint(3, 20))
        else:
            yield case(some(), some(), maximum=rng.choice([0, rng.randint(4, 30)]))


def read(path):
    with open(path, encoding="utf-8", errors="replace", newline="\n") as f:
        return [line.rstrip("\n") for line in f]


def shippable(data):
    out = []
    for path in sorted(glob.glob(data + "/corpora/sotu/*.txt")):
        for line in read(path):
            out += re.split(r"(?<=[.?!]) ", line)
    for path in sorted(glob.glob(data + "/corpora/austen/*.txt")) + [data + "/corpora/moby-dick/moby-dick.txt"]:
        out += read(path)
    for name in ("neg", "pos"):
        out += [l for l in read(data + "/labelled/rt-polarity/rt-polarity." + name)]
    return [l for l in out if l.strip()]


def everything(data):
    out = shippable(data) + read(data + "/corpora/wikitext-2/valid.txt")
    for pattern in ("SST-2/*.tsv", "CoLA/*.tsv", "STS/*/*", "ner-wikigold/*.txt", "pos-ud-ewt/*.conllu"):
        for path in sorted(glob.glob(data + "/labelled/" + pattern)):
            if os.path.isfile(path) and not path.endswith(".zip"):
                out += read(path)
    return [l for l in out if l.strip()]


def dump(f, c):
    f.write(json.dumps(c, ensure_ascii=False, separators=(",", ":")) + "\n")


def sweep():
    """A hash for every 4096 code points: the normalised words of each, in three settings."""
    out = {}
    for name in CONFIGURATIONS:
        if name == "added":
            continue
        t, hashes = TOKENIZERS[name], []
        for start in range(0, 0x110000, 4096):
            h = hashlib.sha256()
            for cp in range(start, start + 4096):
                if 0xD800 <= cp < 0xE000:
                    continue
                for s in (chr(cp), "a" + chr(cp) + "b", "x\U0001e94a" + chr(cp) + "\U0001e002\u302ey"):
                    h.update((words(t, s) + "\n").encode())
            hashes.append(h.hexdigest()[:16])
        out[name] = hashes
    return out


def main():
    if sys.argv[1] == "sample":
        lines = shippable(sys.argv[2])
        rng = random.Random(7)
        with open(os.path.join(TESTDATA, "text", "golden.jsonl"), "w", encoding="utf-8", newline="\n") as f:
            for c in nasty(1000):
                dump(f, c)
            for text in rng.sample([l for l in lines if len(l) < 300], 3000):
                dump(f, case(text))
            for _ in range(300):
                dump(f, case(rng.choice(lines)[:400], rng.choice(lines)[:400], rng.choice([16, 32, 64])))
        with open(os.path.join(TESTDATA, "text", "unicode.json"), "w") as f:
            json.dump(sweep(), f, indent=0)
            f.write("\n")
    elif sys.argv[1] == "full":
        with open(sys.argv[3], "w", encoding="utf-8", newline="\n") as f:
            for text in everything(sys.argv[2]):
                dump(f, case(text))
            for c in nasty(100000, seed=2):
                dump(f, c)
    else:
        t = TOKENIZERS["uncased"]
        t.no_truncation()
        texts = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
        texts = [c["t"] for c in texts if set(c) == {"t", "i"}]
        calls = {
            "encode": lambda: [t.encode(s) for s in texts],
            "encode_batch": lambda: t.encode_batch(texts),
            "encode_batch_fast": lambda: t.encode_batch_fast(texts),
        }
        for name, call in calls.items():
            best = None
            for _ in range(5):
                start = time.perf_counter()
                encodings = call()
                took = time.perf_counter() - start
                best = took if best is None else min(best, took)
            ids = sum(len(e) for e in encodings)
            print(json.dumps({"call": name, "texts": len(texts), "ids": ids, "microseconds_per_text": best / len(texts) * 1e6}))


main()
