package bert

// Sites number the places where random bits are drawn, for Philox counters. Two sites
// never share bits: these are low, those of data (package text) come from the top of 16 bits.
const (
	SiteEmbeddings = 0 // dropout after the embeddings' LayerNorm
	SiteClassifier = 1 // dropout on the pooled output, before the classifier
	SiteScore      = 2 // random selection scores
	SiteInit       = 3 // fresh parameters
)

// Sites within a layer: layer n, from 0, owns 8(n+1) .. 8(n+1)+7.
const (
	SiteAttentionProbs  = 0
	SiteAttentionOutput = 1
	SiteOutput          = 2
)

// Site returns the site of layer n, from 0.
func Site(n int, within uint32) uint32 { return 8*uint32(n+1) + within }
