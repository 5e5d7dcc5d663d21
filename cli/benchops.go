package cli

import (
	"fmt"

	"sift/backend"
)

// The cases of sift bench suite, by what limits them. Operations are the necessary ones,
// bytes those of every operand read or written once, in float32.

func shapeOf(rows, cols int) string { return fmt.Sprintf("%dx%d", rows, cols) }

// gemmKernel is a product as training runs it: forward with its bias, the gradient of the
// input, or that of the weights, which is added to.
func gemmKernel(g gemmSize) kernelCase {
	m, n, k := g.m, g.n, g.k
	return kernelCase{op: "gemm " + g.name, shape: fmt.Sprintf("%dx%dx%d", m, n, k), operations: 2 * float64(m) * float64(n) * float64(k),
		bytes:  4 * (float64(m)*float64(k) + float64(k)*float64(n) + float64(m)*float64(n)),
		narrow: true,
		setup: func(l *lab) (func(), []backend.Tensor) {
			a := backend.GemmArgs{C: l.actZeros(m, n), TransA: g.transA, TransB: g.transB, Alpha: 1}
			if g.transA { // the gradient of a weight
				a.C, a.A, a.Beta = l.zeros(m, n), l.actRandom(k, m), 1
			} else {
				a.A = l.actRandom(m, k)
			}
			if g.transB {
				a.B = l.actRandom(n, k)
			} else {
				a.B = l.actRandom(k, n)
			}
			if !g.transA && g.transB {
				a.Bias = l.random(1, n)
			}
			return func() { l.s.Gemm(a) }, []backend.Tensor{a.C}
		}}
}

// geluKernel is the product that ends in the activation and keeps what went into it.
func geluKernel(m, n, k int, act backend.Activation) kernelCase {
	return kernelCase{op: "gemm with gelu", shape: fmt.Sprintf("%dx%dx%d", m, n, k), operations: 2 * float64(m) * float64(n) * float64(k),
		narrow: true,
		setup: func(l *lab) (func(), []backend.Tensor) {
			a := backend.GemmArgs{C: l.actZeros(m, n), Pre: l.actZeros(m, n), A: l.actRandom(m, k), B: l.actRandom(n, k), TransB: true, Alpha: 1,
				Bias: l.random(1, n), Act: act}
			return func() { l.s.Gemm(a) }, []backend.Tensor{a.C, a.Pre}
		}}
}

func attentionShape(lengths []int, heads, d int) string {
	if len(lengths) > 1 && lengths[0] != lengths[1] {
		return fmt.Sprintf("%d sequences of mixed lengths, %d heads of %d", len(lengths), heads, d)
	}
	return fmt.Sprintf("%d x %d, %d heads of %d", len(lengths), lengths[0], heads, d)
}

// squares is the sum of n^2: the scores of all sequences.
func squares(lengths []int) (sum float64) {
	for _, n := range lengths {
		sum += float64(n) * float64(n)
	}
	return sum
}

func attentionKernel(lengths []int, heads, d int, holes bool) kernelCase {
	h := heads * d
	return kernelCase{op: "attention", shape: attentionShape(lengths, heads, d), operations: 4 * squares(lengths) * float64(h),
		narrow: true,
		setup: func(l *lab) (func(), []backend.Tensor) {
			lay, keys := l.layout(lengths, holes)
			a := backend.AttentionArgs{Out: l.actZeros(lay.Rows, h), LSE: l.zeros(lay.Rows, heads), QKV: l.actRandom(lay.Rows, 3*h), Layout: lay,
				Heads: heads, Scale: 0.125, Drop: l.drop(keys)}
			return func() { l.s.Attention(a) }, []backend.Tensor{a.Out, a.LSE}
		}}
}

// attentionBackwardKernel needs the forward pass, which runs once and is not timed.
func attentionBackwardKernel(lengths []int, heads, d int, holes bool) kernelCase {
	h := heads * d
	return kernelCase{op: "attention backward", shape: attentionShape(lengths, heads, d), operations: 8 * squares(lengths) * float64(h),
		narrow: true,
		setup: func(l *lab) (func(), []backend.Tensor) {
			lay, keys := l.layout(lengths, holes)
			f := backend.AttentionArgs{Out: l.actZeros(lay.Rows, h), LSE: l.zeros(lay.Rows, heads), QKV: l.actRandom(lay.Rows, 3*h), Layout: lay,
				Heads: heads, Scale: 0.125, Drop: l.drop(keys)}
			b := backend.AttentionBackwardArgs{DQKV: l.actZeros(lay.Rows, 3*h), Delta: l.zeros(lay.Rows, heads), DOut: l.actRandom(lay.Rows, h),
				Out: f.Out, LSE: f.LSE, QKV: f.QKV, Layout: lay, Heads: heads, Scale: 0.125, Drop: f.Drop}
			if l.err == nil {
				l.s.Attention(f)
			}
			return func() { l.s.AttentionBackward(b) }, []backend.Tensor{b.DQKV}
		}}
}

// rowKernels are the operations on rows x cols that memory limits.
func rowKernels(rows, cols int) []kernelCase {
	n := 4 * float64(rows) * float64(cols)
	all := func(op string, times float64, setup func(l *lab) (func(), []backend.Tensor)) kernelCase {
		return kernelCase{op: op, shape: shapeOf(rows, cols), bytes: times * n, setup: setup}
	}
	norm := func(l *lab) (backend.LayerNormArgs, backend.Tensor) {
		_, keys := l.layout([]int{rows}, false)
		return backend.LayerNormArgs{Y: l.zeros(rows, cols), Z: l.zeros(rows, cols), Mean: l.zeros(rows, 1), Rstd: l.zeros(rows, 1),
			X: l.random(rows, cols), Residual: l.random(rows, cols), Gamma: l.values(1, cols, 1, 0.5), Beta: l.random(1, cols), Eps: 1e-12,
			Drop: l.drop(keys)}, keys
	}
	return []kernelCase{
		all("zero", 1, func(l *lab) (func(), []backend.Tensor) {
			x := l.random(rows, cols)
			return func() { l.s.Zero(x) }, []backend.Tensor{x}
		}),
		all("copy", 2, func(l *lab) (func(), []backend.Tensor) {
			x, y := l.random(rows, cols), l.zeros(rows, cols)
			return func() { l.s.Copy(y, x) }, []backend.Tensor{y}
		}),
		all("add", 3, func(l *lab) (func(), []backend.Tensor) {
			x, y := l.random(rows, cols), l.random(rows, cols)
			return func() { l.s.Add(y, x) }, []backend.Tensor{y}
		}),
		all("column sum", 1, func(l *lab) (func(), []backend.Tensor) {
			x, y := l.random(rows, cols), l.random(1, cols)
			return func() { l.s.ColSum(y, x) }, []backend.Tensor{y}
		}),
		all("gelu backward", 3, func(l *lab) (func(), []backend.Tensor) {
			dx, dy, pre := l.zeros(rows, cols), l.random(rows, cols), l.values(rows, cols, 0, 4)
			return func() { l.s.GeluBackward(dx, dy, pre, backend.GeluErf) }, []backend.Tensor{dx}
		}),
		all("gelu tanh backward", 3, func(l *lab) (func(), []backend.Tensor) {
			dx, dy, pre := l.zeros(rows, cols), l.random(rows, cols), l.values(rows, cols, 0, 4)
			return func() { l.s.GeluBackward(dx, dy, pre, backend.GeluTanh) }, []backend.Tensor{dx}
		}),
		all("tanh", 2, func(l *lab) (func(), []backend.Tensor) {
			y, x := l.zeros(rows, cols), l.values(rows, cols, 0, 4)
			return func() { l.s.Tanh(y, x) }, []backend.Tensor{y}
		}),
		all("tanh backward", 3, func(l *lab) (func(), []backend.Tensor) {
			dx, dy, y := l.zeros(rows, cols), l.random(rows, cols), l.random(rows, cols)
			return func() { l.s.TanhBackward(dx, dy, y) }, []backend.Tensor{dx}
		}),
		all("dropout", 2, func(l *lab) (func(), []backend.Tensor) {
			_, keys := l.layout([]int{rows}, false)
			y, x := l.zeros(rows, cols), l.random(rows, cols)
			return func() { l.s.Dropout(y, x, l.drop(keys)) }, []backend.Tensor{y}
		}),
		all("layer norm", 4, func(l *lab) (func(), []backend.Tensor) {
			a, _ := norm(l)
			return func() { l.s.LayerNorm(a) }, []backend.Tensor{a.Y, a.Z, a.Mean, a.Rstd}
		}),
		all("layer norm backward", 4, func(l *lab) (func(), []backend.Tensor) {
			a, _ := norm(l)
			b := backend.LayerNormBackwardArgs{DZ: l.zeros(rows, cols), DX: l.zeros(rows, cols), DGamma: l.zeros(1, cols), DBeta: l.zeros(1, cols),
				DY: l.random(rows, cols), Z: a.Z, Mean: a.Mean, Rstd: a.Rstd, Gamma: a.Gamma, Drop: a.Drop}
			if l.err == nil {
				l.s.LayerNorm(a)
			}
			return func() { l.s.LayerNormBackward(b) }, []backend.Tensor{b.DZ, b.DX, b.DGamma, b.DBeta}
		}),
	}
}

// tableKernels are those that read or add to rows of a table of so many entries.
func tableKernels(rows, cols, entries int) []kernelCase {
	n := 4 * float64(rows) * float64(cols)
	shape := fmt.Sprintf("%dx%d of %d", rows, cols, entries)
	return []kernelCase{
		{op: "embedding", shape: shape, bytes: 4 * n, setup: func(l *lab) (func(), []backend.Tensor) {
			a := backend.EmbedArgs{Out: l.zeros(rows, cols), IDs: l.below(rows, entries), Positions: l.below(rows, min(entries, 512)), Types: l.below(rows, 2),
				Word: l.random(entries, cols), Position: l.random(min(entries, 512), cols), Type: l.random(2, cols)}
			return func() { l.s.Embed(a) }, []backend.Tensor{a.Out}
		}},
		{op: "gather rows", shape: shape, bytes: 2 * n, setup: func(l *lab) (func(), []backend.Tensor) {
			y, x, i := l.zeros(rows, cols), l.random(entries, cols), l.below(rows, entries)
			return func() { l.s.GatherRows(y, x, i) }, []backend.Tensor{y}
		}},
		{op: "scatter rows", shape: shape, bytes: 3 * n, setup: func(l *lab) (func(), []backend.Tensor) {
			y, x, i := l.random(entries, cols), l.random(rows, cols), l.below(rows, entries)
			return func() { l.s.ScatterAddRows(y, x, i) }, []backend.Tensor{y}
		}},
	}
}

func lossKernels(rows, classes int) []kernelCase {
	n := 4 * float64(rows) * float64(classes)
	forward := func(l *lab) backend.CrossEntropyArgs {
		return backend.CrossEntropyArgs{Loss: l.zeros(rows, 1), Entropy: l.zeros(rows, 1), LSE: l.zeros(rows, 1), Correct: l.zeros(rows, 1),
			Logits: l.values(rows, classes, 0, 4), Labels: l.below(rows, classes)}
	}
	return []kernelCase{
		{op: "cross-entropy", shape: shapeOf(rows, classes), bytes: n, setup: func(l *lab) (func(), []backend.Tensor) {
			a := forward(l)
			return func() { l.s.CrossEntropy(a) }, []backend.Tensor{a.Loss, a.Entropy, a.LSE, a.Correct}
		}},
		{op: "cross-entropy backward", shape: shapeOf(rows, classes), bytes: 2 * n, setup: func(l *lab) (func(), []backend.Tensor) {
			a := forward(l)
			b := backend.CrossEntropyBackwardArgs{DLogits: l.zeros(rows, classes), Logits: a.Logits, LSE: a.LSE, Labels: a.Labels, Scale: 0.5}
			if l.err == nil {
				l.s.CrossEntropy(a)
			}
			return func() { l.s.CrossEntropyBackward(b) }, []backend.Tensor{b.DLogits}
		}},
	}
}

// flatKernels are the optimiser's, on n parameters.
func flatKernels(n int) []kernelCase {
	return []kernelCase{
		{op: "sum of squares", shape: shapeOf(1, n), bytes: 4 * float64(n), setup: func(l *lab) (func(), []backend.Tensor) {
			y, x := l.zeros(1, 1), l.random(1, n)
			return func() { l.s.SumSquares(y, x) }, []backend.Tensor{y}
		}},
		// Four vectors are read and written.
		{op: "adamw", shape: shapeOf(1, n), bytes: 32 * float64(n), setup: func(l *lab) (func(), []backend.Tensor) {
			a := backend.AdamWArgs{Param: l.random(1, n), Grad: l.random(1, n), M: l.random(1, n), V: l.values(1, n, 1, 0.5), SumSq: l.values(1, 1, float64(n)/3, 0),
				ClipNorm: 1, GradScale: 1, LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, Step: 10}
			return func() { l.s.AdamW(a) }, []backend.Tensor{a.Param, a.M, a.V, a.Grad}
		}},
	}
}
