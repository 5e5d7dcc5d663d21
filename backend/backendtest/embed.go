package backendtest

import (
	"fmt"

	"sift/backend"
)

// embedProblems are Embed with and without token types.
func embedProblems() []problem {
	var all []problem
	for _, sh := range shapes {
		for _, typed := range []bool{false, true} {
			t, h := sh[0], sh[1]
			p := problem{op: "embed", name: fmt.Sprintf("%dx%d types %t", t, h, typed), rowwise: t >= 200, run: func(s *backend.Stream, x tensors) {
				s.Embed(backend.EmbedArgs{Out: x["Out"], IDs: x["IDs"], Positions: x["Positions"], Types: x["Types"],
					Word: x["Word"], Position: x["Position"], Type: x["Type"]})
			}}
			rng := source(p.String())
			words, positions, types := 37, 19, 2
			p.add(in, "Word", words, h, normal(rng, words*h, 1))
			p.add(in, "Position", positions, h, normal(rng, positions*h, 1))
			p.add(in, "IDs", 1, t, below(rng, t, words)).ints().along(alongCols)
			p.add(in, "Positions", 1, t, below(rng, t, positions)).ints().along(alongCols)
			if typed {
				p.add(in, "Type", types, h, normal(rng, types*h, 1))
				p.add(in, "Types", 1, t, below(rng, t, types)).ints().along(alongCols)
			}
			p.add(out, "Out", t, h, nil).along(alongRows)
			all = append(all, p)
		}
	}
	return all
}
