package train

import (
	"math"

	"sift/backend"
	"sift/backend/cpu"
)

// halfDevice is the reference with the operands of its matrix products rounded to
// float16, as a device opened for f16 does: what is too small becomes 0 and what is too
// large infinite.
type halfDevice struct {
	backend.Device
	infinite int // operands that became infinite
}

func newHalfDevice() *halfDevice { return &halfDevice{Device: cpu.NewReference(backend.F32)} }

func (d *halfDevice) Gemm(a backend.GemmArgs) error {
	for _, x := range []*backend.Tensor{&a.A, &a.B} {
		rounded, err := d.round(*x)
		if err != nil {
			return err
		}
		defer rounded.Buf.Free()
		*x = rounded
	}
	return d.Device.Gemm(a)
}

// round returns a copy of x of its own.
func (d *halfDevice) round(x backend.Tensor) (backend.Tensor, error) {
	y, err := backend.Alloc(d.Device, backend.F32, x.Rows, x.Cols)
	if err != nil {
		return y, err
	}
	if err := d.Device.Copy(y, x); err != nil {
		return y, err
	}
	host := make([]float32, y.Len())
	if err := d.Device.DownloadF32(host, y); err != nil {
		return y, err
	}
	for i, v := range host {
		host[i] = toHalf(v)
		if math.IsInf(float64(host[i]), 0) {
			d.infinite++
		}
	}
	return y, d.Device.UploadF32(y, host)
}

// toHalf rounds to the nearest float16, ties to even: 11 bits from 2^-14 on, multiples of
// 2^-24 below, infinity from 65520.
func toHalf(x float32) float32 {
	v := float64(x)
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return x
	}
	_, exponent := math.Frexp(v)
	unit := math.Ldexp(1, max(exponent-11, -24))
	if v = math.RoundToEven(v/unit) * unit; math.Abs(v) >= 65520 {
		return float32(math.Inf(int(math.Copysign(1, v))))
	}
	return float32(v)
}
