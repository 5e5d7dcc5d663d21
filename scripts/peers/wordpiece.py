"""WordPiece as bert-base-uncased does it, in plain Python, for the peers only."""

import unicodedata

PAD, UNK, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
CJK = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
       (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))


def is_punctuation(c):
    """ASCII symbols and Unicode's P categories."""
    return 33 <= ord(c) <= 47 or 58 <= ord(c) <= 64 or 91 <= ord(c) <= 96 or 123 <= ord(c) <= 126 or (
        unicodedata.category(c).startswith("P"))


def words(text):
    """Cleaned, lower-cased, accents stripped, split at white space, punctuation and Chinese characters."""
    out = []
    for c in text:
        if c in "\t\n\r" or unicodedata.category(c) == "Zs":
            out.append(" ")
        elif c in "\0\ufffd" or unicodedata.category(c).startswith("C"):
            continue
        elif any(a <= ord(c) <= b for a, b in CJK):
            out.append(f" {c} ")
        else:
            out.append(c)
    stripped = (c for c in unicodedata.normalize("NFD", "".join(out)) if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if is_punctuation(c) else c for c in "".join(stripped).lower()).split()


class WordPiece:
    """Greedy longest-match-first pieces of a vocabulary file."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.ids = {line.rstrip("\n"): i for i, line in enumerate(f)}

    def pieces(self, word):
        """The ids of one word; [UNK] if no cut fits or it has more than 100 characters."""
        out, start = [], 0
        if len(word) > 100:
            return [self.ids[UNK]]
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.ids:
                    out.append(self.ids[piece])
                    start = end
                    break
            else:
                return [self.ids[UNK]]
        return out

    def encode(self, text, max_length):
        """[CLS] text [SEP], at most max_length ids."""
        ids = [i for word in words(text) for i in self.pieces(word)]
        return [self.ids[CLS], *ids[:max_length - 2], self.ids[SEP]]
