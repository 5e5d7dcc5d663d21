package text

import (
	"slices"
	"sort"
)

// trie holds the vocabulary by bytes. Node 0 is the root; the children of a node are
// consecutive and sorted by label.
type trie struct {
	first []int32 // children of node n: first[n] .. first[n+1]-1
	label []byte  // the byte that leads to a node
	id    []int32 // the token that ends at a node, -1 if none
}

// newTrie builds the trie of tokens, level by level; its size is at most one node per
// byte of the vocabulary.
func newTrie(ids map[string]int32) trie {
	tokens := make([]string, 0, len(ids))
	for token := range ids {
		if token != "" {
			tokens = append(tokens, token)
		}
	}
	slices.Sort(tokens)

	// A node is the run of tokens [lo, hi) that share their first depth bytes.
	type run struct{ lo, hi, depth int32 }
	t := trie{label: []byte{0}, id: []int32{-1}}
	queue := []run{{0, int32(len(tokens)), 0}}
	for n := 0; n < len(queue); n++ {
		r := queue[n]
		t.first = append(t.first, int32(len(queue)))
		if r.lo < r.hi && len(tokens[r.lo]) == int(r.depth) { // the shortest comes first
			t.id[n] = ids[tokens[r.lo]]
			r.lo++
		}
		for r.lo < r.hi {
			b := tokens[r.lo][r.depth]
			end := r.lo + int32(sort.Search(int(r.hi-r.lo), func(i int) bool { return tokens[int(r.lo)+i][r.depth] > b }))
			queue = append(queue, run{r.lo, end, r.depth + 1})
			t.label = append(t.label, b)
			t.id = append(t.id, -1)
			r.lo = end
		}
	}
	t.first = append(t.first, int32(len(queue)))
	return t
}

// child returns the node that b leads to, or -1.
func (t *trie) child(n int32, b byte) int32 {
	lo, hi := t.first[n], t.first[n+1]
	for hi-lo > 8 {
		if m := lo + (hi-lo)/2; t.label[m] <= b {
			lo = m
		} else {
			hi = m
		}
	}
	for ; lo < hi; lo++ {
		if t.label[lo] == b {
			return lo
		}
	}
	return -1
}

// find returns the node of s, or -1.
func (t *trie) find(s string) int32 {
	n := int32(0)
	for i := 0; i < len(s) && n >= 0; i++ {
		n = t.child(n, s[i])
	}
	return n
}

// longest returns the id of the longest token below node n that begins s, and how many
// bytes of s it takes; 0 if there is none.
func longest[T string | []byte](t *trie, n int32, s T) (id int32, size int) {
	for i := 0; i < len(s); i++ {
		if n = t.child(n, s[i]); n < 0 {
			break
		}
		if t.id[n] >= 0 {
			id, size = t.id[n], i+1
		}
	}
	return id, size
}
