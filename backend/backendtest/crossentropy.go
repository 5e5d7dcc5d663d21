package backendtest

import (
	"fmt"
	"math"

	"sift/backend"
	"sift/backend/cpu"
)

// entropyCase is one call of CrossEntropy with made-up operands, and of its backward pass.
type entropyCase struct {
	n, v int
	gain float64
	data string // "normal"; "ties": the largest logit occurs several times; "spike": one logit is 1e30
}

func (c entropyCase) String() string {
	return fmt.Sprintf("%dx%d gain=%g %s", c.n, c.v, c.gain, c.data)
}

func (c entropyCase) logits() []float64 {
	x := normal(source(c.String()), c.n*c.v, c.gain)
	for i := range x {
		row, j := i/c.v, i%c.v
		switch {
		case c.data == "ties" && (j+row)%3 == 0:
			x[i] = 10
		case c.data == "spike" && j == (row+c.v/2)%c.v:
			x[i] = rounded(1e30)
		}
	}
	return x
}

// labels are random, every fourth absent; those of "ties" are candidates for the maximum,
// the first and others.
func (c entropyCase) labels() []float64 {
	l := below(source("labels "+c.String()), c.n, c.v)
	for i := range l {
		if c.data == "ties" {
			l[i] = float64(min((3-i%3)%3+i/3%2*3, c.v-1))
		}
		if i%4 == 3 {
			l[i] = -100
		}
	}
	return l
}

func (c entropyCase) forward() problem {
	p := problem{op: "cross-entropy", name: c.String(), rowwise: c.n >= 200}
	p.add(in, "Logits", c.n, c.v, c.logits()).along(alongRows)
	p.add(in, "Labels", 1, c.n, c.labels()).ints().along(alongCols)
	for _, name := range []string{"Loss", "Entropy", "LSE", "Correct"} {
		p.add(out, name, c.n, 1, nil).along(alongRows)
	}
	p.run = func(s *backend.Stream, x tensors) {
		s.CrossEntropy(backend.CrossEntropyArgs{Loss: x["Loss"], Entropy: x["Entropy"], LSE: x["LSE"], Correct: x["Correct"],
			Logits: x["Logits"], Labels: x["Labels"]})
	}
	return p
}

const entropyScale = 0.37

// backward takes LSE from the reference's forward pass.
func (c entropyCase) backward(inPlace bool) problem {
	f := c.forward()
	res, err := execute(cpu.NewReference(backend.F64), &f, plain)
	if err != nil {
		panic(err)
	}
	p := problem{op: "cross-entropy backward", name: fmt.Sprintf("%s in place %t", c, inPlace), rowwise: c.n >= 200}
	if inPlace {
		p.add(inout, "Logits", c.n, c.v, c.logits()).along(alongRows)
	} else {
		p.add(in, "Logits", c.n, c.v, c.logits()).along(alongRows)
		p.add(out, "DLogits", c.n, c.v, nil).along(alongRows)
	}
	p.add(in, "LSE", c.n, 1, roundedAll(res["LSE"])).along(alongRows)
	p.add(in, "Labels", 1, c.n, c.labels()).ints().along(alongCols)
	p.run = func(s *backend.Stream, x tensors) {
		s.CrossEntropyBackward(backend.CrossEntropyBackwardArgs{DLogits: over(x, "DLogits", "Logits"), Logits: x["Logits"],
			LSE: x["LSE"], Labels: x["Labels"], Scale: entropyScale})
	}
	return p
}

func entropyCases() []entropyCase {
	var all []entropyCase
	for _, sh := range [][2]int{{0, 5}, {1, 1}, {1, 2}, {3, 17}, {7, 33}, {64, 2}, {65, 1000}, {200, 130}, {3, 30522}} {
		all = append(all, entropyCase{sh[0], sh[1], 1, "normal"}, entropyCase{sh[0], sh[1], 1e4, "normal"},
			entropyCase{sh[0], sh[1], 1, "ties"}, entropyCase{sh[0], sh[1], 1, "spike"})
	}
	return all
}

// crossEntropyProblems are CrossEntropy and CrossEntropyBackward, also in place.
func crossEntropyProblems() []problem {
	var forward, backward []problem
	for _, c := range entropyCases() {
		forward = append(forward, c.forward())
		backward = append(backward, c.backward(false), c.backward(true))
	}
	return concat(forward, backward)
}

// logitSize: the largest |logit| of the row and 1 + log V.
func logitSize(p *problem, _ results, _ string) []float64 {
	x := p.find("Logits")
	m := perRow(magnitudes(x.data), x.cols)
	for i := range m {
		m[i] += 1 + math.Log(float64(x.cols))
	}
	return m
}

// entropySize: 1 + log V.
func entropySize(p *problem, ref results, out string) []float64 {
	return filled(len(ref[out]), 1+math.Log(float64(p.find("Logits").cols)))
}

// probabilitySize: Scale (p (1 + |x - lse|) + onehot).
func probabilitySize(p *problem, ref results, out string) []float64 {
	x, lse, labels := p.find("Logits"), p.find("LSE").data, p.find("Labels").data
	size := make([]float64, len(ref[out]))
	for i := range size {
		row, j := i/x.cols, i%x.cols
		below := x.data[i] - lse[row]
		size[i] = entropyScale * math.Exp(below) * (1 + math.Abs(below))
		if int(labels[row]) == j {
			size[i] += entropyScale
		}
	}
	return size
}
