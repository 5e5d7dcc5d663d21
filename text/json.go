package text

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"sift/fault"
)

// tokenizerFile is the part of a tokenizer.json that is read.
type tokenizerFile struct {
	Added         []addedEntry    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Model         json.RawMessage `json:"model"`
}

// addedEntry is a token that counts as a whole wherever it stands in a text.
type addedEntry struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
}

// modelKind is what tells the models apart; old files have no type.
type modelKind struct {
	Type   string          `json:"type"`
	Merges json.RawMessage `json:"merges"`
	Prefix *string         `json:"continuing_subword_prefix"`
	Vocab  json.RawMessage `json:"vocab"`
}

// kind names the model as Hugging Face would.
func (m modelKind) kind() string {
	switch {
	case m.Type != "":
		return m.Type
	case m.Merges != nil:
		return "BPE"
	case len(m.Vocab) > 0 && m.Vocab[0] == '[':
		return "Unigram"
	case m.Prefix == nil:
		return "WordLevel"
	}
	return "WordPiece"
}

// parseTokenizer builds a tokenizer from the text of a tokenizer.json.
func parseTokenizer(content string) (*Tokenizer, error) {
	var f tokenizerFile
	if err := decode([]byte(content), &f); err != nil {
		return nil, err
	}
	if f.Model == nil {
		return nil, fault.New(fault.Data, "model: is missing: not a tokenizer.json")
	}
	var k modelKind
	if err := decode(f.Model, &k); err != nil {
		return nil, fault.In("model", err)
	}
	if kind := k.kind(); kind != "WordPiece" {
		return nil, fault.New(fault.Data, "model: is %s, only BERT's WordPiece is supported", plain(kind))
	}
	t := new(Tokenizer)
	if err := t.setNormalizer(f.Normalizer); err != nil {
		return nil, err
	}
	if kind := typeOf(f.PreTokenizer); kind != "BertPreTokenizer" {
		return nil, fault.New(fault.Data, "pre_tokenizer: is %s, only BertPreTokenizer is supported", kind)
	}
	unk, err := t.setModel(f.Model)
	if err != nil {
		return nil, fault.In("model", err)
	}
	if err := t.setAdded(f.Added); err != nil {
		return nil, fault.In("added_tokens", err)
	}
	cls, sep, err := frame(f.PostProcessor)
	if err != nil {
		return nil, fault.In("post_processor", err)
	}
	return t, t.setSpecial(settings{pad: padToken, unk: unk, cls: cls, sep: sep, mask: maskToken})
}

// setAdded enters the tokens that are looked for before words are formed.
func (t *Tokenizer) setAdded(list []addedEntry) error {
	var raw, folded []addedToken
	for _, a := range list {
		id, known := t.vocab[a.Content]
		switch {
		case a.Content == "":
			continue
		case known && int64(id) != a.ID:
			return fault.New(fault.Data, "%s has id %d here and %d in the vocabulary", show(a.Content), a.ID, id)
		case a.ID != int64(int32(a.ID)):
			return fault.New(fault.Data, "%s has id %d", show(a.Content), a.ID)
		case len(a.Content) > tokenSize:
			return fault.New(fault.Data, "%s is longer than %d bytes", show(a.Content), tokenSize)
		}
		if err := t.name(a.Content, int32(a.ID)); err != nil {
			return err
		}
		if !known {
			if t.beyond == nil {
				t.beyond = make(map[string]int32)
			}
			t.beyond[a.Content] = int32(a.ID)
		}
		token := addedToken{content: a.Content, id: int32(a.ID), lstrip: a.LStrip, rstrip: a.RStrip, singleWord: a.SingleWord}
		if !a.Normalized {
			raw = append(raw, token)
			continue
		}
		var sc scratch
		t.normalise(&sc, a.Content)
		token.content = string(sc.norm)
		folded = append(folded, token)
	}
	t.raw, t.folded = newAdded(raw), newAdded(folded)
	return nil
}

// setNormalizer reads the switches of a BertNormalizer.
func (t *Tokenizer) setNormalizer(raw json.RawMessage) error {
	if kind := typeOf(raw); kind != "BertNormalizer" {
		return fault.New(fault.Data, "normalizer: is %s, only BertNormalizer is supported", kind)
	}
	n := struct {
		Clean   bool  `json:"clean_text"`
		Chinese bool  `json:"handle_chinese_chars"`
		Accents *bool `json:"strip_accents"` // null: as lowercase
		Lower   bool  `json:"lowercase"`
	}{Clean: true, Chinese: true, Lower: true}
	if err := decode(raw, &n); err != nil {
		return fault.In("normalizer", err)
	}
	t.CleanText, t.SplitChinese, t.StripAccents, t.LowerCase = n.Clean, n.Chinese, n.Lower, n.Lower
	if n.Accents != nil {
		t.StripAccents = *n.Accents
	}
	t.fold = t.foldTable()
	return nil
}

// setModel reads the WordPiece model and returns the name of its unknown token.
func (t *Tokenizer) setModel(raw json.RawMessage) (unk string, err error) {
	m := struct {
		Unk      string     `json:"unk_token"`
		Prefix   string     `json:"continuing_subword_prefix"`
		MaxChars int        `json:"max_input_chars_per_word"`
		Vocab    vocabulary `json:"vocab"`
	}{Unk: unkToken, Prefix: "##", MaxChars: 100}
	if err := decode(raw, &m); err != nil {
		return "", err
	}
	if len(m.Vocab) == 0 {
		return "", fault.New(fault.Data, "vocab: is empty")
	}
	if m.MaxChars < 1 || m.MaxChars > tokenSize {
		return "", fault.New(fault.Data, "max_input_chars_per_word: is %d, outside 1 to %d", m.MaxChars, tokenSize)
	}
	t.maxChars = m.MaxChars
	return m.Unk, t.setVocabulary(m.Vocab, m.Prefix)
}

// vocabulary is a JSON object of tokens and ids in which no key comes twice.
type vocabulary map[string]int32

func (v *vocabulary) UnmarshalJSON(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return fault.New(fault.Data, "vocab: is not an object")
	}
	*v = make(vocabulary, bytes.Count(raw, []byte{','})+1)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		token, _ := key.(string)
		var id int32
		if err := d.Decode(&id); err != nil {
			return fault.New(fault.Data, "vocab: %s: the id is not a whole number in range", show(token))
		}
		if _, ok := (*v)[token]; ok {
			return fault.New(fault.Data, "vocab: token %s comes twice", show(token))
		}
		(*v)[token] = id
	}
	return nil
}

// frame returns the tokens that stand before the first text and after each text. A file
// without post-processor gets BERT's.
func frame(raw json.RawMessage) (cls, sep string, err error) {
	switch kind := typeOf(raw); kind {
	case "null":
		return clsToken, sepToken, nil
	case "BertProcessing":
		var p struct{ Sep, Cls []any }
		if err := decode(raw, &p); err != nil {
			return "", "", err
		}
		if len(p.Sep) == 2 && len(p.Cls) == 2 {
			sep, ok1 := p.Sep[0].(string)
			cls, ok2 := p.Cls[0].(string)
			if ok1 && ok2 {
				return cls, sep, nil
			}
		}
		return "", "", fault.New(fault.Data, "sep and cls are not a token and an id")
	case "TemplateProcessing":
		return frameOfTemplate(raw)
	default:
		return "", "", fault.New(fault.Data, "is %s, only BERT's is supported", kind)
	}
}

// templatePiece is a special token or a text in a template.
type templatePiece struct {
	SpecialToken, Sequence *struct {
		ID   string `json:"id"`
		Type int    `json:"type_id"`
	}
}

// frameOfTemplate accepts CLS A SEP and CLS A SEP B SEP with types 0 and, from B on, 1.
func frameOfTemplate(raw json.RawMessage) (cls, sep string, err error) {
	var p struct{ Single, Pair []templatePiece }
	if err := decode(raw, &p); err != nil {
		return "", "", err
	}
	single, pair := spell(p.Single), spell(p.Pair)
	if len(p.Single) == 3 && p.Single[0].SpecialToken != nil && p.Single[2].SpecialToken != nil {
		cls, sep = p.Single[0].SpecialToken.ID, p.Single[2].SpecialToken.ID
	}
	if want := cls + ":0 $A:0 " + sep + ":0"; cls == "" || single != want || pair != want+" $B:1 "+sep+":1" {
		return "", "", fault.New(fault.Data, "the template is not that of BERT: %s", show(pair))
	}
	return cls, sep, nil
}

// spell writes a template as "[CLS]:0 $A:0 [SEP]:0".
func spell(template []templatePiece) string {
	var parts []string
	for _, p := range template {
		text, sign := p.SpecialToken, ""
		if text == nil {
			text, sign = p.Sequence, "$"
		}
		if text == nil {
			return "a piece is neither token nor text"
		}
		parts = append(parts, sign+text.ID+":"+strconv.Itoa(text.Type))
	}
	return strings.Join(parts, " ")
}

// typeOf returns the "type" of a JSON object, "null" for none.
func typeOf(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return "null"
	}
	var k struct{ Type string }
	if json.Unmarshal(raw, &k) != nil || k.Type == "" {
		return "of no type"
	}
	return plain(k.Type)
}

// plain returns a name of letters as it is and quotes any other.
func plain(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return show(name)
	}
	return name
}

// decode reads JSON and says where it is wrong.
func decode(raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	switch e := err.(type) {
	case nil:
		return nil
	case *json.SyntaxError:
		return fault.New(fault.Data, "byte %d: is not JSON: %v", e.Offset, e)
	case *json.UnmarshalTypeError:
		if e.Field == "" {
			return fault.New(fault.Data, "is a JSON %s", e.Value)
		}
		return fault.New(fault.Data, "%s: is a JSON %s", e.Field, e.Value)
	}
	return fault.As(fault.Data, err)
}
