package text

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

	bom = "\ufeff"

	vocabularySize = 32 << 20 // bytes of a file; multilingual ones have 15 MB
	tokenSize      = 1000     // bytes of an added token, and characters of a word
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
	t.fold = t.foldTable()
	if err := t.setVocabulary(vocab, "##"); err != nil {
		return nil, fault.In(file, err)
	}
	if err := t.setSpecial(c); err != nil {
		return nil, fault.In(file, err)
	}
	var tokens []addedToken
	for _, name := range []string{c.pad, c.unk, c.cls, c.sep, c.mask} {
		if id, ok := vocab[name]; ok {
			tokens = append(tokens, addedToken{content: name, id: id})
		}
	}
	t.raw = newAdded(tokens)
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
	t.vocab = vocab
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

// setSpecial looks up the special tokens; all but the mask must be there.
func (t *Tokenizer) setSpecial(s settings) error {
	for _, x := range []struct {
		id   *int32
		name string
	}{{&t.PAD, s.pad}, {&t.UNK, s.unk}, {&t.CLS, s.cls}, {&t.SEP, s.sep}} {
		id, ok := t.ID(x.name)
		if !ok {
			return fault.New(fault.Data, "vocabulary: has no %s", show(x.name))
		}
		*x.id = int32(id)
	}
	t.MASK = -1
	if id, ok := t.ID(s.mask); ok {
		t.MASK = int32(id)
	}
	return nil
}

// show quotes what a file holds for an error message: on one line, and not all of a
// megabyte.
func show(s string) string {
	if len(s) > 64 {
		return fmt.Sprintf("%.60q... (%d bytes)", s, len(s))
	}
	quoted := strconv.Quote(s)
	if inner := quoted[1 : len(quoted)-1]; inner == s && strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		return s // a special token is recognised without quotes
	}
	return quoted
}
