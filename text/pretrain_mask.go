package text

import "math"

// maskTokens chooses the tokens to predict, writes them to x.MLMLabels and replaces them
// in x.IDs.
//
// Of the n tokens that are not special, max(1, round(MaskShare n)) are chosen, uniformly
// without replacement (the first steps of Fisher and Yates' shuffle); none if n = 0. Special are
// [CLS], [SEP], [PAD], [MASK] and [UNK], wherever they come from: an [UNK] would teach
// nothing but to predict [UNK]. (BERT's own code masks [UNK] like any token.) Each chosen
// token becomes, independently, [MASK], a uniform one of the vocabulary's ids, special ones
// included, or stays, with the shares of Replace.
func (p *Pretraining) maskTokens(x *PretrainingExample, d *draws) {
	x.MLMLabels, x.candidates = x.MLMLabels[:0], x.candidates[:0]
	for i, id := range x.IDs {
		x.MLMLabels = append(x.MLMLabels, NoLabel)
		if !p.isSpecial(id) {
			x.candidates = append(x.candidates, int32(i))
		}
	}
	n := len(x.candidates)
	if n == 0 {
		return
	}
	count := max(1, int(math.Round(p.o.MaskShare*float64(n))))
	for k := range count {
		j := k + int(d.below(uint32(n-k)))
		at := x.candidates[j]
		x.candidates[j] = x.candidates[k]
		x.MLMLabels[at] = x.IDs[at]
		switch u := uint64(d.word()); {
		case u < p.masked:
			x.IDs[at] = p.mask
		case u < p.random:
			x.IDs[at] = int32(d.below(p.vocab))
		}
	}
}

func (p *Pretraining) isSpecial(id int32) bool {
	for _, s := range p.special {
		if id == s {
			return true
		}
	}
	return false
}
