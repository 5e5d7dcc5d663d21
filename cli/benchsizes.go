package cli

import (
	"time"

	"sift/backend"
)

// checkedCases are every operation at odd shapes, smaller and larger than a workgroup,
// and at those of BERT.
func checkedCases(shapes [][2]int) []kernelCase {
	var all []kernelCase
	for _, x := range shapes {
		rows, cols := x[0], x[1]
		for _, g := range []gemmSize{{"nn", rows, cols, cols/2 + 1, false, false}, {"nt", rows, cols, cols/2 + 1, false, true},
			{"tn", cols, cols/2 + 1, rows, true, false}, {"tt", rows, cols, cols/2 + 1, true, true}} {
			all = append(all, gemmKernel(g))
		}
		all = append(all, geluKernel(rows, cols, cols/2+1, backend.GeluErf), geluKernel(rows, cols, cols/2+1, backend.GeluTanh))
		all = append(all, rowKernels(rows, cols)...)
		all = append(all, tableKernels(rows, cols, 3*rows)...)
		all = append(all, lossKernels(rows, cols+1)...)
		all = append(all, flatKernels(rows*cols)...)
	}
	return all
}

func checkedAttention(heads, d int, lengths ...int) []kernelCase {
	return []kernelCase{attentionKernel(lengths, heads, d, true), attentionBackwardKernel(lengths, heads, d, true)}
}

// baseTimings are the operations of BERT-base with so many rows back-propagated.
func baseTimings(rows, h, f, vocab, labelled, parameters int, lengths ...[]int) []suiteCase {
	var all []suiteCase
	add := func(part string, cases ...kernelCase) {
		for _, c := range cases {
			all = append(all, suiteCase{part, c})
		}
	}
	for _, g := range gemmSizes(rows, h, f, vocab, labelled) {
		add("gemm", gemmKernel(g))
	}
	add("gemm", geluKernel(rows, f, h, backend.GeluErf))
	const d = 64
	for _, x := range lengths {
		add("attention", attentionKernel(x, h/d, d, false), attentionBackwardKernel(x, h/d, d, false))
	}
	add("memory", rowKernels(rows, h)...)
	add("memory", tableKernels(rows, h, vocab)...)
	add("memory", lossKernels(labelled, vocab)...)
	add("memory", flatKernels(parameters)...)
	return all
}

// times is a list of n sequences of the same length.
func times(n, length int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = length
	}
	return list
}

// updateOf is an update of a model with a name.
func updateOf(preset string, batch, length, warmup, runs int) updateCase {
	u := updateCase{benchSize: benchSize{name: preset, vocab: 30522, batch: batch, length: length, precision: "f32"}, warmup: warmup, runs: runs}
	for _, p := range presets {
		if p.name == preset {
			u.layers, u.hidden, u.heads, u.intermediate = p.layers, p.hidden, p.heads, p.intermediate
		}
	}
	return u
}

// fullSuite is what a GPU is measured with: micro-batches that fill it.
func fullSuite() suiteSizes {
	const rows = 4096
	checks := append(checkedCases([][2]int{{3, 5}, {67, 131}, {512, 768}}), checkedAttention(2, 8, 3, 17, 1)...)
	checks = append(checks, checkedAttention(12, 32, 60, 128, 7)...)
	return suiteSizes{
		checks: append(checks, checkedAttention(12, 64, 128, 512)...),
		timings: append(baseTimings(rows, 768, 3072, 30522, rows*15/100, 25_000_000, times(rows/128, 128), times(rows/512, 512)),
			suiteCase{"gemm", gemmKernel(gemmSize{"square", 4096, 4096, 4096, false, false})}),
		updates: []updateCase{updateOf("bert-tiny", 32, 128, 2, 9), updateOf("minilm", 32, 128, 2, 5), updateOf("bert-base", 16, 128, 1, 5), updateOf("bert-base", 4, 512, 1, 3)},
		budget:  time.Second,
		half:    true,
	}
}

// quickSuite is the same in small, for processors that play a GPU.
func quickSuite() suiteSizes {
	const rows = 512
	checks := append(checkedCases([][2]int{{3, 5}, {67, 131}}), checkedAttention(2, 8, 3, 17, 1)...)
	return suiteSizes{
		checks:  append(checks, checkedAttention(4, 64, 128, 60)...),
		timings: baseTimings(rows, 768, 3072, 30522, rows*15/100, 2_000_000, times(rows/128, 128), times(rows/512, 512)),
		updates: []updateCase{updateOf("bert-tiny", 8, 64, 1, 3), updateOf("bert-base", 1, 64, 1, 1)},
		budget:  200 * time.Millisecond,
	}
}
