package train

import (
	"sift/bert"
	"sift/config"
	"sift/sifting"
)

// exactSamplesDrawn is how many drawn samples of a run are looked at one by one. Of a
// longer run as many examples as examined are, and all updates count as the mean.
const (
	exactSamplesDrawn = 1 << 15
	examined          = 1 << 12
)

// walk goes through a run's updates and adds up what they cost.
type walk struct {
	p     *population
	rule  counting
	ops   *operations
	f     *Forecast
	exact bool
	sizes []exampleSize // exact: of every sample drawn, in order; else of some

	drawn  cost // mean of a sequence
	chosen cost // mean of a sequence that a selection keeps
}

// examine looks at the samples.
func (w *walk) examine() error {
	n := min(w.p.samples.Len(), examined)
	if w.exact = w.p.lengths == fromData && w.f.SamplesDrawn <= exactSamplesDrawn; w.exact {
		n = w.f.SamplesDrawn
	}
	packer := bert.NewPacker(bert.Limits{Rows: w.p.samples.longest(), Seqs: 1, MaxLen: w.p.samples.longest(), Labelled: w.p.samples.labelled()})
	packer.NextSentence, packer.Classification = w.p.objective.NSP, w.p.objective.Classification
	w.sizes = make([]exampleSize, n)
	every := 1
	if !w.exact && w.p.size > 0 { // of the first epoch, evenly
		every = w.p.samples.Len() / n
	}
	tokens, labels := 0, 0
	for i := range w.sizes {
		packer.Reset()
		if err := w.p.samples.add(packer, uint64(i*every)); err != nil {
			return err
		}
		b := packer.Batch()
		w.sizes[i] = exampleSize{b.Rows, len(b.MLMRows)}
		tokens += b.Rows
		labels += len(b.MLMRows)
	}
	w.f.MeanTokens, w.f.MeanLabels = float64(tokens)/float64(n), float64(labels)/float64(n)
	w.means()
	return nil
}

// means fills the mean costs, the selection's over batches as large as it draws.
func (w *walk) means() {
	batch := min(w.rule.sift.MaxDraw(), len(w.sizes))
	kept := 0
	for lo := 0; lo+batch <= len(w.sizes); lo += batch {
		keep := w.rule.sift.KeepOf(batch)
		_, chosen := w.ops.micro(w.sizes[lo:lo+batch], keep)
		w.chosen.add(chosen, 1)
		kept += keep
	}
	w.chosen = w.chosen.times(1 / float64(kept))
	for _, x := range w.sizes {
		w.drawn.add(w.ops.of(x), 1/float64(len(w.sizes)))
	}
}

// updates are one update without and one with selection, as the first of a run would be.
func (w *walk) updates(reuse bool) (plain UpdateForecast, selecting *UpdateForecast) {
	rule := w.rule
	rule.end = 0
	rule.sift.Score = sifting.None
	plain = w.update(rule, w.drawn, reuse)
	if w.rule.sift.Score == sifting.None {
		return plain, nil
	}
	rule.sift = w.rule.sift
	rule.sift.Start, rule.sift.End, rule.sift.Interrupt = 0, 0, 0
	s := w.update(rule, w.chosen, reuse)
	return plain, &s
}

func (w *walk) update(rule counting, kept cost, reuse bool) UpdateForecast {
	var u UpdateForecast
	for _, d := range rule.update(nil, 1, 0) {
		u.Drawn += d.n
		u.Kept += d.keep
	}
	drawn, kept := w.drawn.times(float64(u.Drawn)), kept.times(float64(u.Kept))
	u.TokensDrawn, u.TokensKept, u.FLOPs = drawn.tokens, kept.tokens, kept.step
	if rule.sift.Score != sifting.None && w.ops.scores() {
		u.ScoreReuse, u.ScoreNaive = scoring(drawn, kept)
		if u.ScoreFLOPs = u.ScoreNaive; reuse {
			u.ScoreFLOPs = u.ScoreReuse
		}
	}
	return u
}

// add walks all updates.
func (w *walk) add(cfg config.Config) {
	f := w.f
	if f.Updates == 0 {
		return
	}
	if w.p.size > 0 {
		f.Epochs = float64(f.SamplesDrawn) / float64(w.p.size)
	}
	var draws []draw
	var plain, selected struct{ drawn, kept int }
	var drawn, kept, drawnSelecting, keptSelecting cost
	position, evaluated := 0, 0
	every := cfg.Train.EvaluateEvery
	for u := 1; u <= f.Updates; u++ {
		draws = w.rule.update(draws[:0], u, position)
		selecting, sum := w.rule.sift.Selects(u-1), &plain
		if selecting {
			f.SelectingUpdates++
			sum = &selected
		}
		for _, d := range draws {
			sum.drawn += d.n
			sum.kept += d.keep
			if w.exact {
				x, y := w.ops.micro(w.sizes[d.first:d.first+d.n], d.keep)
				drawn.add(x, 1)
				kept.add(y, 1)
				if selecting {
					drawnSelecting.add(x, 1)
					keptSelecting.add(y, 1)
				}
			}
			position += d.n
		}
		if u == f.Updates || every > 0 && u%every == 0 || every == 0 && w.p.size > 0 && position%w.p.size == 0 {
			evaluated++
		}
	}
	if !w.exact {
		drawnSelecting, keptSelecting = w.drawn.times(float64(selected.drawn)), w.chosen.times(float64(selected.kept))
		drawn, kept = w.drawn.times(float64(plain.drawn)), w.drawn.times(float64(plain.kept))
		drawn.add(drawnSelecting, 1)
		kept.add(keptSelecting, 1)
	}
	f.TokensDrawn, f.TokensBackprop, f.FLOPs = drawn.tokens, kept.tokens, kept.step
	reuse, naive := scoring(drawnSelecting, keptSelecting)
	if f.ScoreFLOPs = naive; cfg.Sift.Reuse {
		f.ScoreFLOPs = reuse
	}
	if w.p.valids > 0 {
		f.Evaluations = evaluated
		f.ValidationFLOPs = float64(evaluated) * w.validation()
	}
}

// validation is the operations of one evaluation.
func (w *walk) validation() float64 {
	total, n := 0.0, w.p.held.Len()
	looked := min(n, examined)
	for i := range looked {
		total += w.ops.forward(w.p.heldSize(i * (n / looked)))
	}
	return total / float64(looked) * float64(w.p.valids)
}
