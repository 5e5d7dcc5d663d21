package text

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const vocabFile = "../testdata/vocab/vocab.txt"

// configuration builds the tokenizer that scripts/tokenizer/golden.py calls name.
func configuration(t testing.TB, name string) *Tokenizer {
	t.Helper()
	type object = map[string]any
	flags, ok := map[string][4]any{ // clean_text, handle_chinese_chars, strip_accents, lowercase
		"uncased":  {true, true, nil, true},
		"cased":    {true, true, nil, false},
		"accents":  {true, true, false, true},
		"stripped": {true, false, true, false},
		"raw":      {false, false, nil, true},
		"added":    {true, true, nil, true},
	}[name]
	if !ok {
		t.Fatalf("no configuration %q", name)
	}
	content, err := os.ReadFile(vocabFile)
	if err != nil {
		t.Fatal(err)
	}
	vocab := make(map[string]int)
	for i, line := range strings.Split(strings.TrimSuffix(string(content), "\n"), "\n") {
		vocab[line] = i
	}
	var tokens []object
	for i, s := range []string{padToken, unkToken, clsToken, sepToken, maskToken} {
		tokens = append(tokens, object{"id": []int{0, 100, 101, 102, 103}[i], "content": s, "special": true})
	}
	if name == "added" {
		next := len(vocab)
		for _, a := range []object{
			{"content": "Captain Ahab", "normalized": true},
			{"content": "Élan", "normalized": true, "single_word": true},
			{"content": "<left>", "lstrip": true},
			{"content": "<right>", "rstrip": true},
			{"content": "<both>", "normalized": true, "lstrip": true, "rstrip": true},
			{"content": "whale", "single_word": true},
			{"content": "whale-ship"},
		} {
			id, ok := vocab[a["content"].(string)]
			if !ok {
				id = next
				next++
			}
			a["id"] = id
			tokens = append(tokens, a)
		}
	}
	file, err := json.Marshal(object{
		"added_tokens": tokens,
		"normalizer": object{"type": "BertNormalizer", "clean_text": flags[0], "handle_chinese_chars": flags[1],
			"strip_accents": flags[2], "lowercase": flags[3]},
		"pre_tokenizer":  object{"type": "BertPreTokenizer"},
		"post_processor": object{"type": "BertProcessing", "sep": []any{sepToken, 102}, "cls": []any{clsToken, 101}},
		"model": object{"type": "WordPiece", "unk_token": unkToken, "continuing_subword_prefix": "##",
			"max_input_chars_per_word": 100, "vocab": vocab},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	tok, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// normalisedWords returns what pre-tokenisation makes of s, added tokens disregarded.
func normalisedWords(t *Tokenizer, s string) []string {
	var sc scratch
	t.normalise(&sc, s)
	var words []string
	for i := 0; ; {
		start, end := nextWord(sc.norm, i)
		if start == end {
			return words
		}
		words = append(words, string(sc.norm[start:end]))
		i = end
	}
}

// goldenCase is a line that scripts/tokenizer/golden.py wrote.
type goldenCase struct {
	Config string  `json:"c"`
	Text   string  `json:"t"`
	Pair   *string `json:"b"`
	Max    int     `json:"m"`
	IDs    []int32 `json:"i"`
	Zeros  int     `json:"n"`
	Words  *string `json:"w"`
}

func compareGolden(t *testing.T, path string, atLeast int) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := Load(vocabFile)
	if err != nil {
		t.Fatal(err)
	}
	tokenizers := map[string]*Tokenizer{"": plain}
	cases, ids, failures := 0, 0, 0
	for r := bufio.NewReader(f); ; cases++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		var c goldenCase
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatalf("line %d: %v", cases+1, err)
		}
		tok := tokenizers[c.Config]
		if tok == nil {
			tok = configuration(t, c.Config)
			tokenizers[c.Config] = tok
		}
		var got Encoding
		if c.Pair != nil {
			got = tok.EncodePair(c.Text, *c.Pair, c.Max)
		} else {
			got = tok.Encode(c.Text, "", c.Max)
			c.Zeros = len(c.IDs)
		}
		types := make([]int32, len(c.IDs))
		for i := c.Zeros; i < len(types); i++ {
			types[i] = 1
		}
		ids += len(c.IDs)
		bad := !slices.Equal(got.IDs, c.IDs) || !slices.Equal(got.Types, types)
		if c.Words != nil {
			if words := strings.Join(normalisedWords(tok, c.Text), " "); words != *c.Words {
				t.Errorf("line %d: %s: words of %+q are %+q, want %+q", cases+1, c.Config, c.Text, words, *c.Words)
				failures++
			}
		}
		if bad {
			t.Errorf("line %d: %s: %+q: ids %v types %v, want %v %v", cases+1, c.Config, c.Text, got.IDs, got.Types, c.IDs, types)
			failures++
		}
		if failures > 20 {
			t.Fatal("and more")
		}
	}
	if cases < atLeast {
		t.Fatalf("%s has %d cases, expected %d", path, cases, atLeast)
	}
	t.Logf("%d cases, %d ids", cases, ids)
}

func TestGolden(t *testing.T) { compareGolden(t, "../testdata/text/golden.jsonl", 5000) }

// TestGoldenFull compares a file made by `scripts/tokenizer/golden.py full`.
func TestGoldenFull(t *testing.T) {
	path := os.Getenv("SIFT_TEXT_GOLDEN")
	if path == "" {
		t.Skip("SIFT_TEXT_GOLDEN names no file; scripts/tokenizer/golden.py full makes one")
	}
	compareGolden(t, path, 100_000)
}

// TestEveryCodePoint normalises and splits each code point alone, between letters and
// among combining marks, under five settings, and compares hashes over 4096 of them.
func TestEveryCodePoint(t *testing.T) {
	content, err := os.ReadFile("../testdata/text/unicode.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]string
	if err := json.Unmarshal(content, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != 5 {
		t.Fatalf("%d settings, expected 5", len(want))
	}
	for name, hashes := range want {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "uncased" {
				t.Skip("-short sweeps only the setting of bert-base-uncased")
			}
			t.Parallel()
			if len(hashes) != 0x110000/4096 {
				t.Fatalf("%d hashes", len(hashes))
			}
			tok := configuration(t, name)
			var sc scratch
			var line []byte
			for block, hash := range hashes {
				h := sha256.New()
				for r := rune(block * 4096); r < rune(block+1)*4096; r++ {
					if 0xD800 <= r && r < 0xE000 {
						continue
					}
					c := string(r)
					for _, s := range []string{c, "a" + c + "b", "x\U0001e94a" + c + "\U0001e002\u302ey"} {
						line = line[:0]
						sc.norm = sc.norm[:0]
						tok.normalise(&sc, s)
						for start, end := nextWord(sc.norm, 0); start < end; start, end = nextWord(sc.norm, end) {
							if len(line) > 0 {
								line = append(line, ' ')
							}
							line = append(line, sc.norm[start:end]...)
						}
						h.Write(append(line, '\n'))
					}
				}
				if got := hex.EncodeToString(h.Sum(nil))[:16]; got != hash {
					t.Errorf("U+%04X to U+%04X: hash %s, want %s", block*4096, block*4096+4095, got, hash)
				}
			}
		})
	}
}

// benchmarkTexts returns the golden texts that are plain sentences, as
// `scripts/tokenizer/golden.py speed` takes them.
func benchmarkTexts(b *testing.B) (texts []string) {
	path := os.Getenv("SIFT_TEXT_GOLDEN")
	if path == "" {
		path = "../testdata/text/golden.jsonl"
	}
	content, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		var c goldenCase
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			b.Fatal(err)
		}
		if c.Config == "" && c.Pair == nil && c.Max == 0 {
			texts = append(texts, c.Text)
		}
	}
	return texts
}
