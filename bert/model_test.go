package bert_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/bert/berttest"
	"sift/fault"
)

var dropped = bert.Mode{Dropout: 0.3, AttentionDropout: 0.2, Seed: 11, Update: 5}

// pick returns the sequences kept of b, in this order.
func pick(b *bert.Batch, kept ...int) *bert.Batch {
	var dst bert.Batch
	b.Select(&dst, kept, nil)
	return &dst
}

// closeTo compares gradients that are sums in another order.
func closeTo(t *testing.T, got, want []float64, tol float64) {
	t.Helper()
	norm, all := 0.0, 0.0
	for i := range want {
		norm = math.Max(norm, math.Abs(want[i]))
		all += math.Abs(got[i])
	}
	for i := range want {
		if math.Abs(got[i]-want[i]) > tol*norm {
			t.Fatalf("gradient %d: %g, want %g", i, got[i], want[i])
		}
	}
	if all == 0 {
		t.Fatal("no gradients")
	}
}

// A sequence's results do not depend on its neighbours, nor on where it stands: bit for
// bit, with dropout. Gradients are sums in another order.
func TestPermutation(t *testing.T) {
	cfg := tiny()
	p := randomPadded(rng(3), cfg, 6, 1, 8, 4, 7)
	p.nsp[4] = 1
	order := []int{3, 0, 4, 2, 1}
	var q padded
	for _, s := range order {
		q.ids, q.mask, q.types, q.mlm = append(q.ids, p.ids[s]), append(q.mask, p.mask[s]), append(q.types, p.types[s]), append(q.mlm, p.mlm[s])
		q.nsp, q.sample = append(q.nsp, p.nsp[s]), append(q.sample, p.sample[s])
	}
	b, c := p.pack(t, cfg), q.pack(t, cfg)
	for _, dev := range berttest.Devices(t) {
		r := newRig(t, dev, cfg, b.Limits(), 1)
		r.loss(b, dropped, 1)
		l, err := r.m.Losses()
		check(t, err)
		nsp := slices.Clone(l.NSP.Loss)
		mlm := map[uint64][]float64{}
		for i, row := range b.MLMRows {
			s := 0
			for b.Offsets[s+1] <= row {
				s++
			}
			mlm[b.SampleID[s]] = append(mlm[b.SampleID[s]], l.MLM.Loss[i])
		}
		want := r.grads()
		r.zero()
		r.loss(c, dropped, 1)
		l, err = r.m.Losses()
		check(t, err)
		for i, s := range order {
			if l.NSP.Loss[i] != nsp[s] {
				t.Errorf("%s: next-sentence loss %g, want %g", dev.Name, l.NSP.Loss[i], nsp[s])
			}
		}
		for i, row := range c.MLMRows {
			s := 0
			for c.Offsets[s+1] <= row {
				s++
			}
			rest := mlm[c.SampleID[s]]
			if l.MLM.Loss[i] != rest[0] {
				t.Errorf("%s: masked-LM loss %g, want %g", dev.Name, l.MLM.Loss[i], rest[0])
			}
			mlm[c.SampleID[s]] = rest[1:]
		}
		closeTo(t, r.grads(), want, 1e-5)
	}
}

// More labelled rows than a chunk of the head, and more chunks than one: the gradient is
// that of the parts.
func TestChunksAndAccumulation(t *testing.T) {
	cfg := tiny()
	cfg.Layers = 1
	var lens []int
	for range 280 {
		lens = append(lens, 8)
	}
	p := randomPadded(rng(3), cfg, lens...)
	b := p.pack(t, cfg)
	if len(b.MLMRows) < 600 {
		t.Fatalf("%d labels do not fill a chunk", len(b.MLMRows))
	}
	r := newRig(t, cpu.NewReference(backend.F64), cfg, b.Limits(), 1)
	check(t, r.m.SetObjective(bert.Objective{MLM: true}))
	r.workspace()
	r.loss(pick(b, seq(0, 280)...), dropped, 1)
	want := r.grads()
	r.zero()
	for lo := 0; lo < 280; lo += 70 {
		part := pick(b, seq(lo, lo+70)...)
		r.loss(part, dropped, float64(len(part.MLMRows))/float64(len(b.MLMRows)))
	}
	closeTo(t, r.grads(), want, 1e-12)
}

func seq(lo, hi int) []int {
	var s []int
	for i := lo; i < hi; i++ {
		s = append(s, i)
	}
	return s
}

// Freezing takes gradients away and changes no other, whatever is frozen.
func TestFreezing(t *testing.T) {
	for _, cfg := range []bert.Config{tiny(), func() bert.Config {
		c := tiny()
		c.HasMLM, c.HasNSP, c.TiedDecoder, c.Classes, c.Layers = false, false, false, 3, 3
		return c
	}()} {
		b := randomPadded(rng(3), cfg, 6, 1, 8, 4).pack(t, cfg)
		full := newRig(t, cpu.NewReference(backend.F32), cfg, b.Limits(), 1)
		full.loss(b, dropped, 1)
		want := full.grads()
		memory := full.m.MemoryBytes()
		try := func(name string, freeze func(m *bert.Model) error, trainable func(p bert.Param) bool) {
			r := newRig(t, cpu.NewReference(backend.F32), cfg, b.Limits(), 1)
			check(t, r.w.Free())
			check(t, freeze(r.m))
			r.workspace()
			loss := r.loss(b, dropped, 1)
			if loss != full.loss(b, dropped, 0) {
				t.Errorf("%s: loss %g", name, loss)
			}
			if r.m.MemoryBytes() > memory {
				t.Errorf("%s takes %d bytes, nothing frozen %d", name, r.m.MemoryBytes(), memory)
			}
			got := r.grads()
			for i, p := range r.m.Params() {
				if r.m.Trainable(i) != trainable(p) {
					t.Fatalf("%s: %s trainable: %v", name, p.Role, r.m.Trainable(i))
				}
				for j := p.Offset; j < p.Offset+p.Len(); j++ {
					if trainable(p) && got[j] != want[j] || !trainable(p) && got[j] != 0 {
						t.Fatalf("%s: %s: gradient %g, unfrozen %g", name, p.Role, got[j], want[j])
					}
				}
			}
		}
		for n := -1; n <= cfg.Layers; n++ {
			try("layers", func(m *bert.Model) error { return m.FreezeLayers(n) }, func(p bert.Param) bool { return p.Stage > n })
		}
		odd := func(p bert.Param) bool {
			return p.Kind == bert.Gamma || p.Role == bert.RoleLayer(1, bert.PartOutput, false)
		}
		try("gammas", func(m *bert.Model) error { return m.SetTrainable(odd) }, odd)
	}
	m, err := bert.NewModel(cpu.NewReference(backend.F32), tiny(), bert.Limits{Rows: 8, Seqs: 1, MaxLen: 8, Labelled: 8})
	check(t, err)
	err = m.SetTrainable(func(p bert.Param) bool { return p.Role != bert.RoleLayer(0, bert.PartKey, false) })
	if fault.KindOf(err) != fault.Config || err == nil {
		t.Errorf("freezing the keys alone: %v", err)
	}
	if err := m.FreezeLayers(3); fault.KindOf(err) != fault.Config || err == nil {
		t.Errorf("freezing more layers than there are: %v", err)
	}
}

// Sequences that attend to nothing, single tokens and sequences without labels are
// finite, and reach other sequences in no way.
func TestDegenerateSequences(t *testing.T) {
	cfg := tiny()
	p := randomPadded(rng(3), cfg, 6, 8, 1, 5)
	for i := range p.mask[1] {
		p.mask[1][i] = 0
	}
	for i := range p.mlm[3] {
		p.mlm[3][i] = bert.NoLabel
	}
	b := p.pack(t, cfg)
	for _, dev := range berttest.Devices(t) {
		r := newRig(t, dev, cfg, b.Limits(), 1)
		for _, mode := range []bert.Mode{{}, dropped} {
			r.zero()
			if l := r.loss(b, mode, 1); math.IsNaN(l) || math.IsInf(l, 0) {
				t.Errorf("%s: loss %g", dev.Name, l)
			}
			for i, g := range r.grads() {
				if math.IsNaN(g) || math.IsInf(g, 0) {
					t.Fatalf("%s: gradient %d is %g", dev.Name, i, g)
				}
			}
		}
		l, err := r.m.Losses()
		check(t, err)
		alone := newRig(t, dev, cfg, b.Limits(), 1)
		alone.loss(pick(b, 0), dropped, 1)
		m, err := alone.m.Losses()
		check(t, err)
		if !slices.Equal(m.MLM.Loss, l.MLM.Loss[:len(m.MLM.Loss)]) || len(m.MLM.Loss) == 0 {
			t.Errorf("%s: %v alone, %v in company", dev.Name, m.MLM.Loss, l.MLM.Loss)
		}
	}
}

// Inference and a pass without dropout agree bit for bit: the workspaces differ in what
// they keep, not in what they compute.
func TestInferenceEqualsTraining(t *testing.T) {
	cfg := tiny()
	cfg.Classes = 3
	b := randomPadded(rng(3), cfg, 6, 1, 8, 4).pack(t, cfg)
	r := newRig(t, cpu.NewReference(backend.F32), cfg, b.Limits(), 1)
	for n := 0; n <= cfg.Layers; n++ {
		check(t, r.w.Load(b))
		r.w.Embed(bert.Mode{})
		r.w.Encode(0, n)
		want := make([]float32, b.Rows*cfg.Hidden)
		check(t, r.m.Stream().DownloadF32(want, r.w.Output(n)))
		got, err := r.m.Hidden(b, n, nil)
		check(t, err)
		if !slices.Equal(got, want) {
			t.Fatalf("layer %d differs", n)
		}
	}
	if _, err := r.m.Hidden(b, 3, nil); fault.KindOf(err) != fault.Data || err == nil {
		t.Errorf("layer 3 of 2: %v", err)
	}
	if _, err := r.m.MLMLogits(b, []int32{int32(b.Rows)}, nil); fault.KindOf(err) != fault.Data || err == nil {
		t.Errorf("row past the end: %v", err)
	}
	rows := make([]int32, 700) // more than a chunk, with repetitions
	for i := range rows {
		rows[i] = int32(i % b.Rows)
	}
	many, err := r.m.MLMLogits(b, rows, nil)
	check(t, err)
	few, err := r.m.MLMLogits(b, rows[:b.Rows], nil)
	check(t, err)
	for i := range many {
		if many[i] != few[i%len(few)] {
			t.Fatalf("logit %d", i)
		}
	}
}

func TestWeightsRoundTrip(t *testing.T) {
	cfg := tiny()
	m, err := bert.NewModel(cpu.NewReference(backend.F32), cfg, bert.Limits{Rows: 8, Seqs: 1, MaxLen: 8, Labelled: 8})
	check(t, err)
	check(t, m.Init(3))
	w, err := m.Weights()
	check(t, err)
	again := bert.Weights{}
	fresh, err := bert.InitMissing(cfg, again, 3)
	check(t, err)
	if len(fresh) != len(m.Params()) {
		t.Errorf("%d fresh of %d", len(fresh), len(m.Params()))
	}
	for role, v := range again {
		if !slices.Equal(v, w[role]) {
			t.Errorf("%s differs", role)
		}
	}
	check(t, m.SetWeights(again))
	delete(again, bert.RoleWord)
	if err := m.SetWeights(again); fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), bert.RoleWord) {
		t.Errorf("missing: %v", err)
	}
	again[bert.RoleWord] = w[bert.RoleWord][1:]
	if err := m.SetWeights(again); fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), bert.RoleWord) {
		t.Errorf("short: %v", err)
	}
	again[bert.RoleWord], again["pooler.gamma"] = w[bert.RoleWord], nil
	if err := m.SetWeights(again); fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), "pooler.gamma") {
		t.Errorf("unknown: %v", err)
	}
}

// Fresh weights are normal(0, 0.02), of their role alone, and other seeds give others.
func TestInit(t *testing.T) {
	big := tiny()
	big.Vocab, big.Hidden = 3000, 32
	w := bert.Weights{}
	_, err := bert.InitMissing(big, w, 7)
	check(t, err)
	v := w[bert.RoleWord]
	var sum, squares, fourth float64
	for _, x := range v {
		sum += float64(x)
		squares += float64(x) * float64(x)
		fourth += math.Pow(float64(x), 4)
	}
	n := float64(len(v))
	variance := squares / n
	if math.Abs(sum/n) > 4*bert.InitStd/math.Sqrt(n) || math.Abs(variance/bert.InitStd/bert.InitStd-1) > 0.03 || math.Abs(fourth/n/variance/variance-3) > 0.1 {
		t.Errorf("mean %g, variance %g, kurtosis %g", sum/n, variance, fourth/n/variance/variance)
	}
	for role, v := range w {
		if g, ok := strings.CutSuffix(role, "norm.weight"); ok && v[0] != 1 {
			t.Errorf("%s is %g", g, v[0])
		}
		if strings.HasSuffix(role, ".bias") && v[0] != 0 {
			t.Errorf("%s is %g", role, v[0])
		}
	}
	other := big
	other.HasNSP, other.Classes, other.Layers = false, 4, 3
	u := bert.Weights{bert.RoleWord: v}
	fresh, err := bert.InitMissing(other, u, 7)
	check(t, err)
	if slices.Contains(fresh, bert.RoleWord) || !slices.Contains(fresh, bert.RoleClassWeight) {
		t.Errorf("fresh: %v", fresh)
	}
	if !slices.Equal(u[bert.RolePoolerWeight], w[bert.RolePoolerWeight]) {
		t.Error("a pooler depends on the other heads")
	}
	x := bert.Weights{}
	_, err = bert.InitMissing(big, x, 8)
	check(t, err)
	if x[bert.RolePoolerWeight][0] == w[bert.RolePoolerWeight][0] {
		t.Error("the seed does not matter")
	}
}

func TestConfigValidate(t *testing.T) {
	if err := tiny().Validate(); err != nil {
		t.Fatal(err)
	}
	for says, f := range map[string]func(c *bert.Config){
		"layers":      func(c *bert.Config) { c.Layers = 0 },
		"hidden":      func(c *bert.Config) { c.Hidden = -8 },
		"heads":       func(c *bert.Config) { c.Heads = 3 },
		"vocab":       func(c *bert.Config) { c.Vocab = 1 << 40 },
		"parameters":  func(c *bert.Config) { c.Vocab, c.Hidden = 1<<27, 1<<20 },
		"positions":   func(c *bert.Config) { c.Positions = 0 },
		"offset":      func(c *bert.Config) { c.PositionOffset = 9 },
		"type_vocab":  func(c *bert.Config) { c.TypeVocab = -1 },
		"activation":  func(c *bert.Config) { c.Activation = backend.Linear },
		"epsilon":     func(c *bert.Config) { c.Eps = math.NaN() },
		"LayerNorm":   func(c *bert.Config) { c.Eps = 0 },
		"pooler":      func(c *bert.Config) { c.HasPooler = false },
		"classes":     func(c *bert.Config) { c.Classes = -1 },
		"many layers": func(c *bert.Config) { c.Layers = 1 << 20 },
	} {
		c := tiny()
		f(&c)
		if err := c.Validate(); fault.KindOf(err) != fault.Data || err == nil || says != "many layers" && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v", says, err)
		}
	}
}

// The flat buffer: aligned, disjoint, query, key and value adjacent.
func TestParams(t *testing.T) {
	for _, f := range berttest.Fixtures(t) {
		params, err := bert.Params(f.Config())
		check(t, err)
		end := 0
		for i, p := range params {
			adjacent := strings.Contains(p.Role, "attention.key") || strings.Contains(p.Role, "attention.value")
			if p.Offset < end || !adjacent && p.Offset%16 != 0 || adjacent && p.Offset != end {
				t.Errorf("%s: %s at %d, after %d", f.File, p.Role, p.Offset, end)
			}
			if i > 0 && p.Stage < params[i-1].Stage {
				t.Errorf("%s: %s: stage %d", f.File, p.Role, p.Stage)
			}
			end = p.Offset + p.Len()
		}
		if n := bert.FlatLen(params); n < end || n%16 != 0 {
			t.Errorf("%s: %d elements, the last ends at %d", f.File, n, end)
		}
	}
}

// Batches beyond the limits, workspaces beyond the model, and backward passes nothing
// was kept for are refused.
func TestLimits(t *testing.T) {
	cfg := tiny()
	b := randomPadded(rng(3), cfg, 6, 1, 8, 4).pack(t, cfg)
	l := b.Limits()
	for _, less := range []func(l *bert.Limits){
		func(l *bert.Limits) { l.Rows-- }, func(l *bert.Limits) { l.Seqs-- },
		func(l *bert.Limits) { l.MaxLen-- }, func(l *bert.Limits) { l.Labelled-- },
	} {
		q := l
		less(&q)
		r := newRig(t, cpu.NewReference(backend.F32), cfg, q, 1)
		if err := r.w.Load(b); fault.KindOf(err) != fault.Data || err == nil {
			t.Errorf("%+v: %v", q, err)
		}
		if r.m.Stream().Err() != nil {
			t.Error("a refused batch breaks the stream")
		}
		if _, err := r.m.NewWorkspace(bert.WorkspaceOptions{Limits: l}); err == nil {
			t.Error("a workspace larger than the model")
		}
	}
	for _, q := range []bert.Limits{{}, {Rows: 4, Seqs: 5, MaxLen: 4}, {Rows: 40, Seqs: 4, MaxLen: 10}, {Rows: 1 << 30, Seqs: 1, MaxLen: 1}} {
		if _, err := bert.NewModel(cpu.NewReference(backend.F32), cfg, q); fault.KindOf(err) != fault.Config || err == nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
	r := newRig(t, cpu.NewReference(backend.F32), cfg, l, 1)
	check(t, r.m.FreezeLayers(1))
	r.workspace()
	check(t, r.m.FreezeLayers(-1))
	check(t, r.w.Load(b))
	r.w.Embed(bert.Mode{})
	r.w.Encode(0, cfg.Layers)
	check(t, r.w.Heads(cfg.Layers, r.m.Objective(), 1))
	if err := r.w.Backward(); err == nil {
		t.Error("backward through layers that kept nothing")
	}
}

// A position offset reads the table further down.
func TestPositionOffset(t *testing.T) {
	cfg := tiny()
	b := randomPadded(rng(3), cfg, 6, 1, 8, 4).pack(t, cfg)
	plain := newRig(t, cpu.NewReference(backend.F32), cfg, b.Limits(), 1)
	w, err := plain.m.Weights()
	check(t, err)
	cfg.PositionOffset = 2
	cfg.Positions += 2
	w[bert.RolePosition] = append(make([]float32, 2*cfg.Hidden), w[bert.RolePosition]...)
	shifted := newRig(t, cpu.NewReference(backend.F32), cfg, b.Limits(), 2)
	check(t, shifted.m.SetWeights(w))
	if a, b := plain.loss(b, dropped, 1), shifted.loss(b, dropped, 1); a != b {
		t.Errorf("loss %g, shifted %g", a, b)
	}
	g, err := plain.m.Gradients()
	check(t, err)
	h, err := shifted.m.Gradients()
	check(t, err)
	if !slices.Equal(g[bert.RolePosition], h[bert.RolePosition][2*cfg.Hidden:]) {
		t.Error("gradients of the position table differ")
	}
	if slices.ContainsFunc(h[bert.RolePosition][:2*cfg.Hidden], func(v float32) bool { return v != 0 }) {
		t.Error("positions below the offset have gradients")
	}
}

// No two sites share random bits.
func TestSites(t *testing.T) {
	seen := map[uint32]bool{bert.SiteEmbeddings: true, bert.SiteClassifier: true, bert.SiteScore: true, bert.SiteInit: true}
	if len(seen) != 4 {
		t.Fatal("sites outside the layers coincide")
	}
	for n := range 4096 {
		for _, within := range []uint32{bert.SiteAttentionProbs, bert.SiteAttentionOutput, bert.SiteOutput} {
			s := bert.Site(n, within)
			if s < 8 || s >= 1<<16 || seen[s] {
				t.Fatalf("layer %d: site %d", n, s)
			}
			seen[s] = true
		}
	}
}

// counting is a device that counts its buffers and fails to allocate one of them.
type counting struct {
	backend.Device
	live, asked, failAt int
}

type countedBuffer struct {
	backend.Buffer
	d *counting
}

func (b countedBuffer) Free() error {
	b.d.live--
	return b.Buffer.Free()
}

func (d *counting) Alloc(n int64) (backend.Buffer, error) {
	d.asked++
	if d.asked == d.failAt {
		return nil, fault.New(fault.Device, "no memory")
	}
	b, err := d.Device.Alloc(n)
	d.live++
	return countedBuffer{b, d}, err
}

// Wherever memory runs out, what was taken is given back, and Free gives back the rest.
func TestOutOfMemory(t *testing.T) {
	cfg := tiny()
	l := bert.Limits{Rows: 8, Seqs: 1, MaxLen: 8, Labelled: 8}
	for failAt := 1; ; failAt++ {
		d := &counting{Device: cpu.NewReference(backend.F32), failAt: failAt}
		m, err := bert.NewModel(d, cfg, l)
		if err == nil {
			_, err = m.NewWorkspace(bert.WorkspaceOptions{Limits: l, Layers: 2, Grads: true})
			asked := d.asked
			check(t, m.Free())
			if d.live != 0 {
				t.Errorf("%d buffers left by Free", d.live)
			}
			if asked < failAt {
				if failAt < 4 {
					t.Errorf("only %d allocations", failAt)
				}
				return
			}
		}
		if fault.KindOf(err) != fault.Device || d.live != 0 {
			t.Errorf("allocation %d fails: %v, %d buffers left", failAt, err, d.live)
		}
	}
}
