package text

import (
	"encoding/json"

	"sift/fault"
)

// settings is what a tokenizer_config.json says about a vocab.txt.
type settings struct {
	lower, chinese, accents bool

	pad, unk, cls, sep, mask string
}

// parseConfig reads a tokenizer_config.json; what it leaves out is as in
// bert-base-uncased, and accents are stripped where case is.
func parseConfig(content string) (settings, error) {
	f := struct {
		Lower   bool        `json:"do_lower_case"`
		Chinese bool        `json:"tokenize_chinese_chars"`
		Accents *bool       `json:"strip_accents"`
		Pad     specialName `json:"pad_token"`
		Unk     specialName `json:"unk_token"`
		Cls     specialName `json:"cls_token"`
		Sep     specialName `json:"sep_token"`
		Mask    specialName `json:"mask_token"`
	}{Lower: true, Chinese: true, Pad: padToken, Unk: unkToken, Cls: clsToken, Sep: sepToken, Mask: maskToken}
	if err := decode([]byte(content), &f); err != nil {
		return settings{}, err
	}
	s := settings{
		lower: f.Lower, chinese: f.Chinese, accents: f.Lower,
		pad: string(f.Pad), unk: string(f.Unk), cls: string(f.Cls), sep: string(f.Sep), mask: string(f.Mask),
	}
	if f.Accents != nil {
		s.accents = *f.Accents
	}
	return s, nil
}

// specialName is a special token, written as a string or as an object with "content".
type specialName string

func (n *specialName) UnmarshalJSON(raw []byte) error {
	var object struct{ Content string }
	name := (*string)(n)
	if json.Unmarshal(raw, name) == nil { // null leaves the default
		return nil
	}
	if json.Unmarshal(raw, &object) != nil || object.Content == "" {
		return fault.New(fault.Data, "a special token is neither a string nor an object with content")
	}
	*name = object.Content
	return nil
}
