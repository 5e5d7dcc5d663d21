package bert_test

import (
	"math"
	"testing"

	"sift/bert"
	"sift/bert/berttest"
)

// The outputs of every fixture, as torch computes them in float64 on padded arrays with
// a hole in a mask, from the packed rows of every device.
func TestFixtureOutputs(t *testing.T) {
	for _, dev := range berttest.Devices(t) {
		compared := 0
		for _, f := range berttest.Fixtures(t) {
			t.Run(dev.Name+"/"+f.File, func(t *testing.T) {
				cfg := f.Config()
				var c struct {
					Inputs  berttest.Padded
					Outputs map[string]struct {
						Shape []int
						Data  []float32
					}
				}
				berttest.JSON(t, &c, "onnx", f.Case)
				b := c.Inputs.Pack(t)
				m, err := bert.NewModel(dev, cfg, b.Limits())
				check(t, err)
				defer m.Free()
				check(t, m.SetWeights(f.Roles(t, cfg, nil)))
				for _, o := range f.Outputs {
					want := c.Outputs[o.Name].Data
					perToken := true
					var got []float32
					switch o.Kind {
					case "hidden":
						got, err = m.Hidden(b, cfg.Layers, nil)
					case "mlm":
						rows := make([]int32, b.Rows)
						for i := range rows {
							rows[i] = int32(i)
						}
						got, err = m.MLMLogits(b, rows, nil)
					case "pooled":
						got, err = m.Pooled(b, nil)
						perToken = false
					case "nsp":
						got, err = m.NSPLogits(b, nil)
						perToken = false
					case "logits":
						if isRounded(f.File) {
							continue // stored in 16 bits; the weights here are not
						}
						got, err = m.Classify(b, nil)
						perToken = false
					default:
						continue // recognised, not run
					}
					check(t, err)
					if perToken {
						want = kept(b, want, len(c.Inputs.IDs[0]))
					}
					if len(got) != len(want) {
						t.Fatalf("%s: %d elements, want %d", o.Name, len(got), len(want))
					}
					for i, w := range want {
						if math.Abs(float64(got[i]-w)) > 2e-5+2e-5*math.Abs(float64(w)) {
							t.Fatalf("%s[%d]: %g, torch has %g", o.Name, i, got[i], w)
						}
					}
					compared++
				}
			})
		}
		if compared < 15 {
			t.Errorf("%s: only %d outputs compared", dev.Name, compared)
		}
	}
}

func isRounded(file string) bool {
	for _, end := range []string{"-float16.onnx", "-bfloat16.onnx"} {
		if len(file) > len(end) && file[len(file)-len(end):] == end {
			return true
		}
	}
	return false
}

// kept picks the packed rows out of padded [S,width,n].
func kept(b *bert.Batch, padded []float32, width int) []float32 {
	n := len(padded) / (b.Seqs * width)
	var out []float32
	for s := range b.Seqs {
		for r := b.Offsets[s]; r < b.Offsets[s+1]; r++ {
			at := (s*width + int(b.Positions[r])) * n
			out = append(out, padded[at:at+n]...)
		}
	}
	return out
}
