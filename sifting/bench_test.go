package sifting_test

import (
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/sifting"
)

// BenchmarkStep is a training step without the optimiser, in GFLOP/s of the part that is
// back-propagated and as a share of the same step without selection.
func BenchmarkStep(b *testing.B) {
	minilm := bert.Config{Layers: 6, Hidden: 384, Heads: 12, Intermediate: 1536, Vocab: 30522, Positions: 512, TypeVocab: 2,
		Activation: backend.GeluErf, Eps: 1e-12, HasPooler: true, Classes: 2}
	base := bert.Config{Layers: 12, Hidden: 768, Heads: 12, Intermediate: 3072, Vocab: 30522, Positions: 512, TypeVocab: 2,
		Activation: backend.GeluErf, Eps: 1e-12, HasPooler: true, HasMLM: true, HasNSP: true, TiedDecoder: true}
	for _, c := range []struct {
		name      string
		cfg       bert.Config
		kept, len int
	}{{"MiniLM classification 32x25", minilm, 32, 25}, {"BERT-base pre-training 8x128", base, 8, 128}} {
		for _, o := range []struct {
			name string
			sifting.Options
		}{
			{"plain", sifting.Options{}},
			{"reuse", sifting.Options{Score: sifting.Loss, ExitLayer: 1, Keep: 0.5, Reuse: true, ScoringDropout: true}},
			{"naive", sifting.Options{Score: sifting.Loss, ExitLayer: 1, Keep: 0.5, ScoringDropout: true}},
		} {
			b.Run(c.name+"/"+o.name, func(b *testing.B) {
				dev, err := cpu.Open(cpu.Options{})
				check(b, err)
				defer dev.Close()
				o.MicroBatch, o.Dropout, o.AttentionDropout = c.kept, 0.1, 0.1
				var lens []int
				for range o.MaxDraw() {
					lens = append(lens, c.len)
				}
				batch := labelledBatch(b, c.cfg, lens)
				m, err := bert.NewModel(dev, c.cfg, batch.Limits())
				check(b, err)
				check(b, m.Init(1))
				s := newStepper(b, m, o.Options)
				var kept bert.Batch
				for b.Loop() {
					r, err := s.Step(batch, sifting.StepArgs{Select: true})
					check(b, err)
					check(b, m.Stream().Sync())
					if kept.Seqs == 0 {
						batch.Select(&kept, r.KeptIndex, nil)
					}
				}
				b.ReportMetric(c.cfg.StepFLOPs(&kept)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				b.ReportMetric(float64(m.MemoryBytes())/(1<<20), "MiB")
			})
		}
	}
}

// labelledBatch is randomBatch with 15% of the tokens labelled and no holes.
func labelledBatch(t testing.TB, cfg bert.Config, lens []int) *bert.Batch {
	b := randomBatch(t, cfg, 5, lens...)
	b.MLMRows, b.MLMLabels = b.MLMRows[:0], b.MLMLabels[:0]
	for i := range b.KeyValid {
		b.KeyValid[i] = 1
		if cfg.HasMLM && i%7 == 3 {
			b.MLMRows, b.MLMLabels = append(b.MLMRows, int32(i)), append(b.MLMLabels, b.IDs[i])
		}
	}
	return b
}
