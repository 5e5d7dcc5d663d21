package text

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"sift/fault"
)

const (
	padToken  = "[PAD]"
	unkToken  = "[UNK]"
	clsToken  = "[CLS]"
	sepToken  = "[SEP]"
	maskToken = "[MASK]"

	bom            = "\ufeff"
	vocabularySize = 64 << 20 // bytes; the largest multilingual vocabularies have 5 MB
)

// Load reads a tokenizer from a directory (its tokenizer.json, else its vocab.txt), a
// vocab.txt or a tokenizer.json, which a name that ends in .json tells apart.
//
// A vocab.txt has one token a line, its id the line's number from 0; white space at the
// end of a line and a byte order mark are ignored, blank lines at the end do not count,
// and one in between leaves its id without a token. The switches of normalisation and the names
// of the special tokens come from a tokenizer_config.json beside it, if there is one; else
// they are those of bert-base-uncased.
//
// A tokenizer.json holds all of that itself. Its "truncation" and "padding" are ignored:
// the caller says how long a sequence may be, and packed batches have no padding. A
// tokenizer.json that is not BERT WordPiece is refused.
func Load(path string) (*Tokenizer, error) {
	file := path
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		for _, name := range []string{"tokenizer.json", "vocab.txt"} {
			file = filepath.Join(path, name)
			if _, err = os.Stat(file); err == nil {
				break
			}
		}
		if err != nil {
			return nil, fault.New(fault.Missing, "%s: has neither tokenizer.json nor vocab.txt", path)
		}
	}
	content, hash, err := readFile(file, vocabularySize)
	if err != nil {
		return nil, err
	}
	content = strings.TrimPrefix(content, bom)
	if strings.TrimSpace(content) == "" {
		return nil, fault.New(fault.Data, "%s: is empty", file)
	}
	var t *Tokenizer
	if strings.EqualFold(filepath.Ext(file), ".json") {
		t, err = parseTokenizer(content)
		err = fault.In(file, err)
	} else {
		t, err = loadVocabulary(file, content)
	}
	if err != nil {
		return nil, err
	}
	t.Path, t.Hash, t.Files = file, hash, append([]string{file}, t.Files...)
	t.fold = t.foldTable()
	return t, nil
}

// loadVocabulary builds a tokenizer from a vocab.txt and the configuration beside it.
func loadVocabulary(file, content string) (*Tokenizer, error) {
	vocab, err := parseVocabulary(content)
	if err != nil {
		return nil, fault.In(file, err)
	}
	settings := filepath.Join(filepath.Dir(file), "tokenizer_config.json")
	config := "{}"
	var files []string
	if _, err := os.Stat(settings); err == nil {
		if config, _, err = readFile(settings, vocabularySize); err != nil {
			return nil, err
		}
		files = []string{settings}
	}
	c, err := parseConfig(strings.TrimPrefix(config, bom))
	if err != nil {
		return nil, fault.In(settings, err)
	}
	t := &Tokenizer{CleanText: true, SplitChinese: c.chinese, StripAccents: c.accents, LowerCase: c.lower, maxChars: 100, Files: files}
	if err := t.setVocabulary(vocab, "##"); err != nil {
		return nil, fault.In(file, err)
	}
	for _, s := range []struct {
		id   *int32
		name string
	}{{&t.PAD, c.pad}, {&t.UNK, c.unk}, {&t.CLS, c.cls}, {&t.SEP, c.sep}} {
		if *s.id, err = t.special(s.name); err != nil {
			return nil, fault.In(file, err)
		}
		t.raw.add(addedToken{content: s.name, id: *s.id})
	}
	t.MASK = -1
	if id, ok := vocab[c.mask]; ok {
		t.MASK = id
		t.raw.add(addedToken{content: c.mask, id: id})
	}
	return t, nil
}

// parseVocabulary reads the lines of a vocab.txt.
func parseVocabulary(content string) (map[string]int32, error) {
	content = strings.TrimRightFunc(content, isWhite)
	vocab := make(map[string]int32, strings.Count(content, "\n")+1)
	id := int32(0)
	for line := range strings.Lines(content) {
		token := strings.TrimRightFunc(line, isWhite)
		switch earlier, ok := vocab[token]; {
		case token == "":
		case !utf8.ValidString(token):
			return nil, fault.New(fault.Data, "line %d: is not UTF-8", id+1)
		case ok:
			return nil, fault.New(fault.Data, "line %d: token %s is also on line %d", id+1, show(token), earlier+1)
		default:
			vocab[token] = id
		}
		id++
	}
	return vocab, nil
}

// setVocabulary fills the tables that are derived from the vocabulary. Ids must be
// distinct, not negative, and dense enough that a table by id is no waste.
func (t *Tokenizer) setVocabulary(vocab map[string]int32, prefix string) error {
	t.vocab, t.prefix = vocab, prefix
	t.pieces = newTrie(vocab)
	t.inner = t.pieces.find(prefix)
	for token, id := range vocab {
		if err := t.name(token, id); err != nil {
			return err
		}
	}
	return nil
}

// name enters a token into the table by id.
func (t *Tokenizer) name(token string, id int32) error {
	if most := 8*len(t.vocab) + 4096; id < 0 || int(id) >= most {
		return fault.New(fault.Data, "vocabulary: token %s has id %d, outside 0 to %d", show(token), id, most-1)
	}
	if n := int(id) + 1 - len(t.tokens); n > 0 {
		t.tokens = append(t.tokens, make([]string, n)...)
	}
	if other := t.tokens[id]; other != "" && other != token {
		first, second := min(token, other), max(token, other) // whatever the order of the map
		return fault.New(fault.Data, "vocabulary: tokens %s and %s have the same id %d", show(first), show(second), id)
	}
	t.tokens[id] = token
	return nil
}

// special returns the id of a token that must be there.
func (t *Tokenizer) special(name string) (int32, error) {
	id, ok := t.ID(name)
	if !ok {
		return 0, fault.New(fault.Data, "vocabulary: has no %s", show(name))
	}
	return int32(id), nil
}

// show quotes what a file holds for an error message: on one line, and not all of a
// megabyte.
func show(s string) string {
	if len(s) > 64 {
		return fmt.Sprintf("%.60q... (%d bytes)", s, len(s))
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return s // a special token is recognised without quotes
	}
	return fmt.Sprintf("%q", s)
}
