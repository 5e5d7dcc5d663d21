package train

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"sift/fault"
	"sift/text"
)

// tokenizerFiles returns the files of a tokenizer in the Hugging Face layout: those it
// was read from under their usual names, and the others made from it.
func tokenizerFiles(t *text.Tokenizer, maxLength int) ([]file, error) {
	const limit = 256 << 20
	have := map[string]bool{}
	var list []file
	add := func(name string, data []byte) {
		have[name] = true
		list = append(list, file{name, data})
	}
	for i, path := range t.Files {
		name := filepath.Base(path)
		if i == 0 { // the vocabulary, whatever its file is called
			name = "vocab.txt"
			if strings.EqualFold(filepath.Ext(path), ".json") {
				name = "tokenizer.json"
			}
		}
		data, err := readAll(osDisk{}, path, limit)
		if err != nil {
			return nil, err
		}
		add(name, data)
	}
	if !have["vocab.txt"] {
		if data, ok := vocabulary(t); ok {
			add("vocab.txt", data)
		}
	}
	config := specialTokens(t)
	config["tokenizer_class"], config["model_max_length"] = "BertTokenizer", maxLength
	config["do_lower_case"], config["strip_accents"], config["tokenize_chinese_chars"] = t.LowerCase, t.StripAccents, t.SplitChinese
	for _, f := range []struct {
		name string
		body map[string]any
	}{{"tokenizer_config.json", config}, {"special_tokens_map.json", specialTokens(t)}, {"tokenizer.json", fastTokenizer(t)}} {
		if have[f.name] || f.body == nil {
			continue
		}
		data, err := json.MarshalIndent(f.body, "", "  ")
		if err != nil {
			return nil, fault.New(fault.Internal, "%s: %w", f.name, err)
		}
		add(f.name, append(data, '\n'))
	}
	return list, nil
}

func specialTokens(t *text.Tokenizer) map[string]any {
	m := map[string]any{}
	for name, id := range map[string]int32{"pad_token": t.PAD, "unk_token": t.UNK, "cls_token": t.CLS, "sep_token": t.SEP, "mask_token": t.MASK} {
		if id >= 0 {
			m[name] = t.Token(int(id))
		}
	}
	return m
}

// vocabulary lists the tokens by id, one a line. It reports false if an id has none, or
// one that a line cannot hold.
func vocabulary(t *text.Tokenizer) ([]byte, bool) {
	var b []byte
	for id := range t.VocabSize() {
		token := t.Token(id)
		if token == "" || strings.TrimSpace(token) != token || strings.ContainsAny(token, "\r\n") {
			return nil, false
		}
		b = append(append(b, token...), '\n')
	}
	return b, true
}

// fastTokenizer is tokenizer.json for a tokenizer read from a vocab.txt, nil if its
// vocabulary has gaps.
func fastTokenizer(t *text.Tokenizer) map[string]any {
	if _, ok := vocabulary(t); !ok {
		return nil
	}
	vocab := make(map[string]int, t.VocabSize())
	for id := range t.VocabSize() {
		vocab[t.Token(id)] = id
	}
	var added []any
	for _, id := range []int32{t.PAD, t.UNK, t.CLS, t.SEP, t.MASK} {
		if id >= 0 {
			added = append(added, map[string]any{"id": id, "content": t.Token(int(id)), "special": true,
				"single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
		}
	}
	cls, sep := t.Token(int(t.CLS)), t.Token(int(t.SEP))
	special := func(token string, kind int) any {
		return map[string]any{"SpecialToken": map[string]any{"id": token, "type_id": kind}}
	}
	sequence := func(name string, kind int) any {
		return map[string]any{"Sequence": map[string]any{"id": name, "type_id": kind}}
	}
	template := func(token string, id int32) any {
		return map[string]any{"id": token, "ids": []int32{id}, "tokens": []string{token}}
	}
	return map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added,
		"normalizer": map[string]any{"type": "BertNormalizer", "clean_text": t.CleanText, "handle_chinese_chars": t.SplitChinese,
			"strip_accents": t.StripAccents, "lowercase": t.LowerCase},
		"pre_tokenizer": map[string]any{"type": "BertPreTokenizer"},
		"post_processor": map[string]any{"type": "TemplateProcessing",
			"single":         []any{special(cls, 0), sequence("A", 0), special(sep, 0)},
			"pair":           []any{special(cls, 0), sequence("A", 0), special(sep, 0), sequence("B", 1), special(sep, 1)},
			"special_tokens": map[string]any{cls: template(cls, t.CLS), sep: template(sep, t.SEP)}},
		"decoder": map[string]any{"type": "WordPiece", "prefix": "##", "cleanup": true},
		"model": map[string]any{"type": "WordPiece", "unk_token": t.Token(int(t.UNK)), "continuing_subword_prefix": "##",
			"max_input_chars_per_word": 100, "vocab": vocab},
	}
}
