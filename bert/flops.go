package bert

// ForwardFLOPs returns the floating-point operations that a forward pass over b cannot
// do without, up to and including layer `layers` (0: embeddings only): two per
// multiply-add of the linear maps and of attention within each sequence. Element-wise
// work, softmax and recomputation are not counted.
//
//	per row and layer   2 (4 H^2 + 2 H F)
//	per sequence of n   4 n^2 H per layer
func (c Config) ForwardFLOPs(b *Batch, layers int) float64 {
	h, f := float64(c.Hidden), float64(c.Intermediate)
	var squares float64
	for s := range b.Seqs {
		n := float64(b.Len(s))
		squares += n * n
	}
	return float64(layers) * (float64(b.Rows)*2*(4*h*h+2*h*f) + 4*squares*h)
}

// HeadFLOPs returns the operations of the heads over b: the masked-LM head on labelled
// rows only, pooler, next-sentence and classification heads on one row a sequence.
//
//	per labelled row   2 H^2 + 2 H V
//	per sequence       2 H^2 (pooler) + 2 H (2 or Classes)
func (c Config) HeadFLOPs(b *Batch) float64 {
	h, s := float64(c.Hidden), float64(b.Seqs)
	total := float64(len(b.MLMRows)) * (2*h*h + 2*h*float64(c.Vocab))
	if len(b.NSPLabels) > 0 || len(b.Labels) > 0 {
		total += s * 2 * h * h
	}
	if len(b.NSPLabels) > 0 {
		total += s * 2 * h * 2
	}
	if len(b.Labels) > 0 {
		total += s * 2 * h * float64(c.Classes)
	}
	return total
}

// StepFLOPs returns the operations of a forward and backward pass over b: three times
// the forward pass, since the backward pass multiplies by each matrix twice.
func (c Config) StepFLOPs(b *Batch) float64 {
	return 3 * (c.ForwardFLOPs(b, c.Layers) + c.HeadFLOPs(b))
}

// ScoreFLOPs returns the operations of scoring b at exit layer k with the head of obj: the
// trunk up to that layer, and the masked-LM head on labelled rows or else the classifier.
func (c Config) ScoreFLOPs(b *Batch, k int, obj Objective) float64 {
	h, f := float64(c.Hidden), c.ForwardFLOPs(b, k)
	if obj.MLM {
		return f + float64(len(b.MLMRows))*(2*h*h+2*h*float64(c.Vocab))
	}
	return f + float64(b.Seqs)*2*h*(h+float64(c.Classes))
}
