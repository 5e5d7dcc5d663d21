package text

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"sift/fault"
)

func load(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := Load(vocabFile)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestLoad(t *testing.T) {
	tok := load(t)
	if tok.VocabSize() != 30522 || tok.PAD != 0 || tok.UNK != 100 || tok.CLS != 101 || tok.SEP != 102 || tok.MASK != 103 {
		t.Errorf("%d tokens, special %d %d %d %d %d", tok.VocabSize(), tok.PAD, tok.UNK, tok.CLS, tok.SEP, tok.MASK)
	}
	if want := "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"; tok.Hash != want || tok.Path != vocabFile {
		t.Errorf("%s has hash %s", tok.Path, tok.Hash)
	}
	if id, ok := tok.ID("##ing"); !ok || tok.Token(id) != "##ing" {
		t.Error(id, ok)
	}
	if _, ok := tok.ID("no such token"); ok || tok.Token(-1) != "" || tok.Token(30522) != "" {
		t.Error("a token that is not there was found")
	}
	if !tok.CleanText || !tok.SplitChinese || !tok.StripAccents || !tok.LowerCase || tok.NeedMask() != nil {
		t.Error("not the settings of bert-base-uncased")
	}
}

const special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"

func TestLoadVocabulary(t *testing.T) {
	plain := special + "a\n##b\n"
	for _, c := range []struct{ name, content string }{
		{"plain", plain}, {"CRLF", strings.ReplaceAll(plain, "\n", "\r\n")}, {"BOM", bom + plain},
		{"no final newline", strings.TrimSuffix(plain, "\n")}, {"blank lines at the end", plain + "\n \n"},
	} {
		tok, err := Load(write(t, "vocab.txt", c.content))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := tok.Encode("ab a b", "", 0).IDs; tok.VocabSize() != 7 || !slices.Equal(got, []int32{2, 5, 6, 5, 1, 3}) {
			t.Errorf("%s: %d tokens, ids %v", c.name, tok.VocabSize(), got)
		}
	}
	tok, err := Load(write(t, "vocab.txt", special+"\na\n"))
	if err != nil || tok.VocabSize() != 7 || tok.Token(5) != "" || tok.Token(6) != "a" {
		t.Error("a blank line in between does not keep its id:", err)
	}
	tok, err = Load(write(t, "vocab.txt", strings.ReplaceAll(special, "[MASK]", "a")))
	if err != nil || tok.MASK != -1 || fault.KindOf(tok.NeedMask()) != fault.Data {
		t.Error("no [MASK]:", err)
	}
	if got := tok.Encode("[MASK]", "", 0).IDs; !slices.Equal(got, []int32{2, 1, 1, 1, 3}) {
		t.Errorf("[MASK] without mask token: %v", got)
	}
	if tok, err = Load(write(t, "vocab.txt", special+"a\nb\n")); err != nil || !slices.Equal(tok.AppendIDs(nil, "ab b"), []int32{1, 6}) {
		t.Error("a vocabulary in which no piece continues a word:", err)
	}
}

func TestLoadConfiguration(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("vocab.txt", "<pad>\n<unk>\n<s>\n</s>\n<mask>\nÉ\né\ne\n")
	put("tokenizer_config.json", `{"do_lower_case": false, "tokenize_chinese_chars": false, "strip_accents": null, "pad_token": "<pad>",
		"unk_token": {"content": "<unk>", "lstrip": false}, "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}`)
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tok.LowerCase || tok.StripAccents || tok.SplitChinese || tok.MASK != 4 {
		t.Errorf("%v %v %v %v", tok.LowerCase, tok.StripAccents, tok.SplitChinese, tok.MASK)
	}
	if want := []string{filepath.Join(dir, "vocab.txt"), filepath.Join(dir, "tokenizer_config.json")}; !slices.Equal(tok.Files, want) {
		t.Errorf("files %q", tok.Files)
	}
	if got := tok.Encode("É é e <mask>", "", 0).IDs; !slices.Equal(got, []int32{2, 5, 6, 7, 4, 3}) {
		t.Error(got)
	}
	put("tokenizer_config.json", `{"pad_token": 3}`)
	if _, err := Load(filepath.Join(dir, "vocab.txt")); fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), "tokenizer_config.json: ") {
		t.Error(err)
	}
	put("tokenizer.json", `{`) // preferred, so its fault is reported
	if _, err := Load(dir); fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), "tokenizer.json: byte 1: is not JSON") {
		t.Error(err)
	}
}

func TestLoadErrors(t *testing.T) {
	model := func(s string) string {
		return `{"normalizer": {"type": "BertNormalizer"}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": ` + s + `}`
	}
	const vocab = `"vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}`
	for _, c := range []struct{ name, content, want string }{
		{"vocab.txt", "", "is empty"},
		{"vocab.txt", "\n \n", "is empty"},
		{"vocab.txt", "a\nb\na\n", `line 3: token "a" is also on line 1`},
		{"vocab.txt", "a\n\xff\n", "line 2: is not UTF-8"},
		{"vocab.txt", "a\nb\n", "vocabulary: has no [PAD]"},
		{"vocab.txt", "[PAD]\n[UNK]\n[SEP]\n", "vocabulary: has no [CLS]"},
		{"t.json", "[]", "is a JSON array"},
		{"t.json", "{}", "model: is missing: not a tokenizer.json"},
		{"t.json", `{"model": {"type": "BPE", "vocab": {}, "merges": []}}`, "model: is BPE, only BERT's WordPiece is supported"},
		{"t.json", `{"model": {"vocab": {}, "merges": []}}`, "model: is BPE, only BERT's WordPiece is supported"},
		{"t.json", `{"model": {"type": "Unigram", "vocab": [["a", 0.5]]}}`, "model: is Unigram, only BERT's WordPiece is supported"},
		{"t.json", `{"model": {"vocab": {"a": 0}, "unk_token": "a"}}`, "model: is WordLevel, only BERT's WordPiece is supported"},
		{"t.json", `{"model": {"type": "WordPiece"}, "normalizer": {"type": "NFC"}}`, "normalizer: is NFC, only BertNormalizer is supported"},
		{"t.json", `{"model": {"type": "WordPiece"}}`, "normalizer: is null, only BertNormalizer is supported"},
		{"t.json", `{"model": {"type": "WordPiece"}, "normalizer": {"type": "BertNormalizer"}, "pre_tokenizer": {"type": "a\nb"}}`,
			`pre_tokenizer: is "a\nb", only BertPreTokenizer is supported`},
		{"t.json", model(`{"type": "WordPiece", "vocab": {}}`), "model: vocab: is empty"},
		{"t.json", model(`{"type": "WordPiece", "vocab": []}`), "model: vocab: is not an object"},
		{"t.json", model(`{"type": "WordPiece", "vocab": {"a": 0, "a": 1}}`), `model: vocab: token "a" comes twice`},
		{"t.json", model(`{"type": "WordPiece", "vocab": {"a": 0, "b": 0}}`), `model: vocabulary: tokens "a" and "b" have the same id 0`},
		{"t.json", model(`{"type": "WordPiece", "vocab": {"a": 2000000000}}`), `model: vocabulary: token "a" has id 2000000000, outside 0 to 4103`},
		{"t.json", model(`{"type": "WordPiece", "vocab": {"a": -1}}`), `model: vocabulary: token "a" has id -1, outside 0 to 4103`},
		{"t.json", model(`{"type": "WordPiece", "vocab": {"a": 1.5}}`), `model: vocab: "a": the id is not a whole number in range`},
		{"t.json", model(`{"type": "WordPiece", "max_input_chars_per_word": 0, ` + vocab + `}`), "model: max_input_chars_per_word: is 0, outside 1 to 1000"},
		{"t.json", model(`{"type": "WordPiece", "unk_token": "<u>", ` + vocab + `}`), `vocabulary: has no "<u>"`},
		{"t.json", model(`{"type": "WordPiece", ` + vocab + `}, "added_tokens": [{"id": 9, "content": "[SEP]"}]`),
			"added_tokens: [SEP] has id 9 here and 3 in the vocabulary"},
		{"t.json", model(`{"type": "WordPiece", ` + vocab + `}, "added_tokens": [{"id": 3, "content": "x"}]`),
			`added_tokens: vocabulary: tokens [SEP] and "x" have the same id 3`},
		{"t.json", model(`{"type": "WordPiece", ` + vocab + `}, "added_tokens": [{"id": 5000000000, "content": "x"}]`),
			`added_tokens: "x" has id 5000000000`},
		{"t.json", model(`{"type": "WordPiece", ` + vocab + `}, "added_tokens": [{"id": 4, "content": "` + strings.Repeat("y", 1001) + `"}]`),
			`added_tokens: "` + strings.Repeat("y", 60) + `"... (1001 bytes) is longer than 1000 bytes`},
		{"t.json", model(`{"type": "WordPiece", ` + vocab + `}, "post_processor": {"type": "RobertaProcessing"}`),
			"post_processor: is RobertaProcessing, only BERT's is supported"},
		{"t.json", model(`{"type": "WordPiece", ` + vocab + `}, "post_processor": {"type": "TemplateProcessing", "single": [], "pair": []}`),
			`post_processor: the template is not that of BERT: ""`},
	} {
		path := write(t, c.name, c.content)
		_, err := Load(path)
		if err == nil {
			t.Errorf("%.80q: no error, want %s", c.content, c.want)
			continue
		}
		got := strings.TrimPrefix(err.Error(), path+": ")
		if got != c.want || fault.KindOf(err) != fault.Data {
			t.Errorf("%.80q: error %q (kind %d), want %q", c.content, got, fault.KindOf(err), c.want)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir(), os.DevNull} {
		if _, err := Load(path); fault.KindOf(err) != fault.Missing {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestTokenizerFile reads an old tokenizer.json, whose model has no type, and a newer one
// with a template, truncation and padding, which must not matter.
func TestTokenizerFile(t *testing.T) {
	const added = `"added_tokens": [{"id": 2, "content": "[CLS]"}, {"id": 3, "content": "[SEP]"}],`
	const head = `"normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
		"pre_tokenizer": {"type": "BertPreTokenizer"},`
	const model = `"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 4,
		"vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "##b": 5}}`
	old := `{` + added + head + `"model": {` + model + `}`
	newer := `{"truncation": {"max_length": 3}, "padding": {"strategy": {"Fixed": 9}},` + added + head + `"post_processor": {"type": "TemplateProcessing",
		"single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
		"pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
		{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]},
		"model": {"type": "WordPiece",` + model + `}`
	for _, content := range []string{old, newer} {
		tok, err := Load(write(t, "tokenizer.json", content))
		if err != nil {
			t.Fatal(err)
		}
		want := Encoding{IDs: []int32{2, 4, 5, 5, 1, 3, 3, 4, 3}, Types: []int32{0, 0, 0, 0, 0, 0, 0, 1, 1}}
		if got := tok.Encode("ABB aбббb[SEP]", "Á", 0); !reflect.DeepEqual(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func TestEncodeShort(t *testing.T) {
	tok := load(t)
	for maxLength, want := range map[int][]int32{1: {101}, 2: {101, 102}, 3: {101, 1037, 102}} {
		if got := tok.Encode("a b c", "", maxLength); !slices.Equal(got.IDs, want) || len(got.Types) != len(want) {
			t.Errorf("%d: %v", maxLength, got)
		}
	}
	if got := tok.EncodePair("a", "b", 2).IDs; !slices.Equal(got, []int32{101, 102}) {
		t.Error(got)
	}
	if got := tok.EncodePair("a", "", 0); !reflect.DeepEqual(got, Encoding{IDs: []int32{101, 1037, 102, 102}, Types: []int32{0, 0, 0, 1}}) {
		t.Error(got)
	}
}

// TestChunks holds texts beyond one chunk against the same text in parts.
func TestChunks(t *testing.T) {
	tok := load(t)
	long := strings.Repeat("unaffable Straße, \u0301e\u0323 [MASK] 你好 ", 6000) + strings.Repeat("x", 2*chunk)
	var want []int32
	for _, word := range strings.Fields(long) {
		want = tok.AppendIDs(want, word)
	}
	if got := tok.AppendIDs(nil, long); !slices.Equal(got, want) || len(long) < 3*chunk {
		t.Errorf("%d ids, want %d", len(got), len(want))
	}
	if got := tok.Encode(long, long, 99).IDs; len(got) != 99 || !slices.Equal(got[1:49], want[:48]) || !slices.Equal(got[50:98], want[:48]) {
		t.Error("truncated pair of long texts")
	}
}

func TestEncodeAll(t *testing.T) {
	tok := load(t)
	d := &Dataset{}
	for i, s := range []string{"one", "", "two words", "three whole words", "[MASK]", "six", "x y z w v u"} {
		d.Examples = append(d.Examples, Example{A: s, B: "tail", Label: int32(i)})
	}
	for _, pairs := range []bool{false, true} {
		d.Pairs = pairs
		base := tok.EncodeAll(d, 6, 1)
		if base.Len() != 7 || base.Truncated == 0 {
			t.Fatal(base)
		}
		for i := range base.Len() {
			want := tok.Encode(d.Examples[i].A, "", 6)
			if pairs {
				want = tok.EncodePair(d.Examples[i].A, "tail", 6)
			}
			if got := base.Sequence(i); !slices.Equal(got.IDs, want.IDs) || !slices.Equal(got.Types, want.Types) || base.Labels[i] != int32(i) {
				t.Errorf("sequence %d is %v, want %v", i, got, want)
			}
		}
		for _, goroutines := range []int{0, 2, 3, 100} {
			if got := tok.EncodeAll(d, 6, goroutines); !reflect.DeepEqual(got, base) {
				t.Errorf("%d goroutines: %v, want %v", goroutines, got, base)
			}
		}
	}
	if e := tok.EncodeAll(&Dataset{}, 6, 2); e.Len() != 0 || len(e.Offsets) != 1 {
		t.Error("no examples:", e)
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	tok := load(t)
	want := tok.Encode("Unaffable é\u0301 [MASK]", "and 你好", 9)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if got := tok.Encode("Unaffable é\u0301 [MASK]", "and 你好", 9); !reflect.DeepEqual(got, want) {
					t.Errorf("%v, want %v", got, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestEncodeAllocates(t *testing.T) {
	tok := load(t)
	var sc scratch
	dst := make([]int32, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		dst = tok.appendText(dst[:0], &sc, "The unaffable Café, again [MASK] 한국어 \u302ea\U0001e002.", 32)
	}); n != 0 || len(dst) < 10 {
		t.Errorf("%v allocations, %d ids", n, len(dst))
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "Hello, world", "[MASK][SEP", "\xff\x00é\u0301", "你好", strings.Repeat("a", 101), "\U0001e94a\U0001e002\u302e"} {
		f.Add(s, "", uint8(0))
		f.Add("x", s, uint8(7))
	}
	tokenizers := []*Tokenizer{load(f), configuration(f, "raw"), configuration(f, "added")}
	f.Fuzz(func(t *testing.T, a, b string, maxLength uint8) {
		for _, tok := range tokenizers {
			e := tok.Encode(a, b, int(maxLength))
			if maxLength > 0 && len(e.IDs) > int(maxLength) || len(e.IDs) != len(e.Types) {
				t.Fatalf("%d ids, %d types, maximum %d", len(e.IDs), len(e.Types), maxLength)
			}
			for i, id := range e.IDs {
				if id < 0 || int(id) >= tok.VocabSize() || tok.Token(int(id)) == "" || e.Types[i]&^1 != 0 {
					t.Fatalf("id %d type %d", id, e.Types[i])
				}
			}
			if again := tok.Encode(a, b, int(maxLength)); !reflect.DeepEqual(again, e) {
				t.Fatalf("%v, then %v", e, again)
			}
			// Cutting early gives what cutting late gives.
			whole, n := tok.Encode(a, "", 0).IDs, len(e.IDs)
			if b == "" && n >= 2 && (!slices.Equal(e.IDs[:n-1], whole[:n-1]) || e.IDs[n-1] != tok.SEP) {
				t.Fatalf("%v is no beginning of %v", e.IDs, whole)
			}
			if tok.CleanText && !utf8.ValidString(a) {
				if clean := tok.Encode(strings.ToValidUTF8(a, "\ufffd"), "", 0).IDs; !slices.Equal(clean, whole) {
					t.Fatalf("invalid bytes: %v, as U+FFFD %v", whole, clean)
				}
			}
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(special+"a\r\n##b\n\nc"), false)
	f.Add([]byte(`{"added_tokens": [{"id": 3, "content": "[SEP]"}, {"id": 6, "content": "A b", "normalized": true, "lstrip": true, "rstrip": true, "single_word": true}],
		"normalizer": {"type": "BertNormalizer", "strip_accents": false}, "pre_tokenizer": {"type": "BertPreTokenizer"},
		"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
		"model": {"type": "WordPiece", "continuing_subword_prefix": "", "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "ab": 5}}}`), true)
	f.Fuzz(func(t *testing.T, content []byte, isJSON bool) {
		name := "vocab.txt"
		if isJSON {
			name = "tokenizer.json"
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		tok, err := Load(path)
		if err != nil {
			if !strings.HasPrefix(err.Error(), path+": ") || strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Fatalf("error %q", err)
			}
			return
		}
		for id := range tok.VocabSize() {
			if token := tok.Token(id); token != "" {
				if back, ok := tok.ID(token); !ok || back != id {
					t.Fatalf("token %q has id %d, found %d %v", token, id, back, ok)
				}
			}
		}
		for _, id := range tok.Encode("abab A B é[SEP]x", string(content), 0).IDs {
			if tok.Token(int(id)) == "" {
				t.Fatalf("id %d of %d", id, tok.VocabSize())
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tok := load(b)
	texts := benchmarkTexts(b)
	bytes := 0
	for _, s := range texts {
		bytes += len(s)
	}
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	ids := 0
	var dst Encoding
	for b.Loop() {
		ids = 0
		for _, s := range texts {
			dst = tok.AppendEncode(Encoding{IDs: dst.IDs[:0], Types: dst.Types[:0]}, s, "", 0)
			ids += len(dst.IDs)
		}
	}
	per := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(len(texts))
	b.ReportMetric(per/1e3, "µs/text")
	b.ReportMetric(float64(ids)/float64(len(texts)), "ids/text")
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		load(b)
	}
}
