package verify

import (
	"fmt"
	"math/rand/v2"

	"sift/fault"
	"sift/onnx"
	"sift/onnx/eval"
)

// Inputs is one padded batch, all slices [Batch*Length] and row-major.
type Inputs struct {
	Source        string // "random" or "text"
	Batch, Length int
	IDs           []int64
	Mask          []int64 // 1 where a token may be attended to; never all 0 in a sequence
	Types         []int64
}

// Tokens counts the tokens that are not masked.
func (in *Inputs) Tokens() int {
	n := 0
	for _, m := range in.Mask {
		n += int(m)
	}
	return n
}

// Sequence is an encoded text.
type Sequence struct{ IDs, Types []int32 }

// Shape is the size of a batch.
type Shape struct {
	Batch  int `json:"batch"`
	Length int `json:"length"`
}

// domain is what values a model's inputs may take.
type domain struct {
	vocab, types int
	pad          int64 // of positions beyond a sequence's end
	avoid        int64 // a token that must not occur inside a sequence, -1 if there is none
	masked       bool  // the graph has a mask, so sequences may be shorter than the batch
}

// random draws a batch. In a batch of several sequences the first is full; the others end
// early, and every third has holes in its mask as well, the first position included.
// The same seed and shape give the same batch whatever else is drawn.
func (d domain) random(seed uint64, s Shape) Inputs {
	rng := rand.New(rand.NewPCG(seed, uint64(s.Batch)<<32|uint64(s.Length)))
	n := s.Batch * s.Length
	in := Inputs{Source: "random", Batch: s.Batch, Length: s.Length,
		IDs: make([]int64, n), Mask: make([]int64, n), Types: make([]int64, n)}
	for b := range s.Batch {
		end := s.Length
		if b > 0 && d.masked {
			end = 1 + rng.IntN(s.Length)
		}
		border := rng.IntN(end + 1) // token types change here
		for t := range s.Length {
			i := b*s.Length + t
			if t >= end {
				in.IDs[i] = d.pad
				continue
			}
			for in.IDs[i] = d.avoid; in.IDs[i] == d.avoid; {
				in.IDs[i] = rng.Int64N(int64(d.vocab))
				if d.vocab == 1 {
					break
				}
			}
			in.Mask[i] = 1
			if d.types > 1 && t >= border {
				in.Types[i] = rng.Int64N(int64(d.types))
			}
		}
		if b%3 == 2 && end > 3 && d.masked {
			for range max(1, end/5) {
				in.Mask[b*s.Length+rng.IntN(end-1)] = 0 // the last token stays
			}
		}
	}
	return in
}

// text pads encoded sequences to the longest of them, cut at length.
func (d domain) text(list []Sequence, length int) (Inputs, error) {
	s := Shape{Batch: len(list)}
	for i, q := range list {
		if len(q.IDs) == 0 || q.Types != nil && len(q.Types) != len(q.IDs) {
			return Inputs{}, fault.New(fault.Data, "text %d: %d tokens, %d token types", i, len(q.IDs), len(q.Types))
		}
		s.Length = max(s.Length, min(len(q.IDs), length))
	}
	n := s.Batch * s.Length
	in := Inputs{Source: "text", Batch: s.Batch, Length: s.Length,
		IDs: make([]int64, n), Mask: make([]int64, n), Types: make([]int64, n)}
	for b, q := range list {
		for t := range s.Length {
			i := b*s.Length + t
			if t >= len(q.IDs) {
				in.IDs[i] = d.pad
				continue
			}
			if q.IDs[t] < 0 || int(q.IDs[t]) >= d.vocab {
				return Inputs{}, fault.New(fault.Data, "text %d: token %d of a vocabulary of %d", b, q.IDs[t], d.vocab)
			}
			in.IDs[i], in.Mask[i] = int64(q.IDs[t]), 1
			if q.Types != nil && d.types > 1 {
				in.Types[i] = int64(q.Types[t])
			}
		}
	}
	return in, nil
}

// Feed names and types the batch as a graph wants it.
func (in *Inputs) feed(sig *signature) map[string]*eval.Tensor {
	feed := map[string]*eval.Tensor{}
	for _, v := range sig.inputs {
		data := in.IDs
		switch v.Name {
		case sig.names.Mask:
			data = in.Mask
		case sig.names.Types:
			data = in.Types
		case sig.names.Positions:
			data = make([]int64, len(in.IDs))
			for i := range data {
				data[i] = sig.offset() + int64(i%in.Length)
			}
		}
		t := &eval.Tensor{DType: v.DType, Dims: []int{in.Batch, in.Length}}
		if v.DType == onnx.Float {
			for _, x := range data {
				t.F = append(t.F, float64(x))
			}
		} else {
			t.I = data
		}
		feed[v.Name] = t
	}
	return feed
}

func (in *Inputs) String() string {
	return fmt.Sprintf("%s batch of %d x %d", in.Source, in.Batch, in.Length)
}
