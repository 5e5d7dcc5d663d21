package backendtest

import (
	"fmt"

	"sift/backend"
)

// shapes are rows x columns: empty, one row, odd, and large enough to be shared out
// among threads.
var shapes = [][2]int{{0, 5}, {5, 0}, {1, 1}, {1, 3}, {3, 1}, {1, 17}, {17, 33}, {33, 65}, {7, 384}, {65, 16}, {200, 48}, {520, 40}}

// rowProblems are Zero, Copy, Add, GatherRows and ScatterAddRows.
func rowProblems() []problem {
	var zero, cpy, add, gather, scatter []problem
	for _, sh := range shapes {
		r, c := sh[0], sh[1]
		name := fmt.Sprintf("%dx%d", r, c)
		rng := source("rows " + name)
		for _, dtype := range []backend.DType{backend.None, backend.I32} {
			p := problem{op: "zero", name: name, run: func(s *backend.Stream, x tensors) { s.Zero(x["x"]) }}
			p.add(inout, "x", r, c, below(rng, r*c, 1000)).dtype = dtype
			zero = append(zero, p)

			p = problem{op: "copy", name: name, run: func(s *backend.Stream, x tensors) { s.Copy(x["dst"], x["src"]) }}
			p.add(in, "src", r, c, below(rng, r*c, 1000)).dtype = dtype
			p.add(inout, "dst", r, c, below(rng, r*c, 1000)).dtype = dtype
			cpy = append(cpy, p)
		}

		p := problem{op: "add", name: name, rowwise: r >= 200, run: func(s *backend.Stream, x tensors) { s.Add(x["y"], x["x"]) }}
		p.add(in, "x", r, c, normal(rng, r*c, 1)).along(alongRows)
		p.add(inout, "y", r, c, normal(rng, r*c, 1)).along(alongRows)
		add = append(add, p)

		// A table of its own size: rows of it are taken several times or never.
		table := r/2 + 1
		p = problem{op: "gather rows", name: name, rowwise: r >= 200, run: func(s *backend.Stream, x tensors) {
			s.GatherRows(x["dst"], x["src"], x["index"])
		}}
		p.add(in, "src", table, c, normal(rng, table*c, 1))
		p.add(in, "index", 1, r, below(rng, r, table)).ints().along(alongCols)
		p.add(out, "dst", r, c, nil).along(alongRows)
		gather = append(gather, p)

		for _, table := range []int{r/2 + 1, 3 * (r + 1), 1} {
			p = problem{op: "scatter-add rows", name: fmt.Sprintf("%s into %d", name, table), run: func(s *backend.Stream, x tensors) {
				s.ScatterAddRows(x["dst"], x["src"], x["index"])
			}}
			p.add(in, "src", r, c, normal(rng, r*c, 1))
			p.add(in, "index", 1, r, below(rng, r, table)).ints()
			p.add(inout, "dst", table, c, normal(rng, table*c, 1))
			scatter = append(scatter, p)
		}
	}
	return concat(zero, cpy, add, gather, scatter)
}

func concat(lists ...[]problem) []problem {
	var all []problem
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
