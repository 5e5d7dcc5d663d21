//go:build cgo && linux

package vulkan

import (
	"sift/backend"
)

// missing stands for the operations that have no kernel yet.
type missing struct{}

func (missing) not(op string) error { return none("no kernel for %s yet", op) }

func (m missing) Zero(x backend.Tensor) error                     { return m.not("zero") }
func (m missing) Copy(dst, src backend.Tensor) error              { return m.not("copy") }
func (m missing) Add(y, x backend.Tensor) error                   { return m.not("add") }
func (m missing) Gemm(a backend.GemmArgs) error                   { return m.not("gemm") }
func (m missing) ColSum(dst, src backend.Tensor) error            { return m.not("column sum") }
func (m missing) Tanh(y, x backend.Tensor) error                  { return m.not("tanh") }
func (m missing) TanhBackward(dx, dy, y backend.Tensor) error     { return m.not("tanh") }
func (m missing) Embed(a backend.EmbedArgs) error                 { return m.not("embed") }
func (m missing) GatherRows(dst, src, index backend.Tensor) error { return m.not("gather") }
func (m missing) ScatterAddRows(dst, src, index backend.Tensor) error {
	return m.not("scatter")
}
func (m missing) GeluBackward(dx, dy, pre backend.Tensor, act backend.Activation) error {
	return m.not("gelu")
}
func (m missing) Dropout(y, x backend.Tensor, d backend.Drop) error       { return m.not("dropout") }
func (m missing) LayerNorm(a backend.LayerNormArgs) error                 { return m.not("layer norm") }
func (m missing) LayerNormBackward(a backend.LayerNormBackwardArgs) error { return m.not("layer norm") }
func (m missing) Attention(a backend.AttentionArgs) error                 { return m.not("attention") }
func (m missing) AttentionBackward(a backend.AttentionBackwardArgs) error { return m.not("attention") }
func (m missing) CrossEntropy(a backend.CrossEntropyArgs) error           { return m.not("cross-entropy") }
func (m missing) CrossEntropyBackward(a backend.CrossEntropyBackwardArgs) error {
	return m.not("cross-entropy")
}
func (m missing) SumSquares(dst, x backend.Tensor) error { return m.not("sum of squares") }
func (m missing) AdamW(a backend.AdamWArgs) error        { return m.not("adamw") }
