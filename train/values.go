package train

import (
	"encoding/binary"
	"io"

	"sift/backend"
)

// values is a flat buffer on the host, of a device's float type.
type values struct {
	f32 []float32
	f64 []float64
}

func newValues(t backend.DType, n int) *values {
	if t == backend.F64 {
		return &values{f64: make([]float64, n)}
	}
	return &values{f32: make([]float32, n)}
}

func (v *values) len() int { return len(v.f32) + len(v.f64) }

func (v *values) download(dev backend.Device, src backend.Tensor) error {
	if v.f64 != nil {
		return dev.DownloadF64(v.f64, src)
	}
	return dev.DownloadF32(v.f32, src)
}

func (v *values) upload(dev backend.Device, dst backend.Tensor) error {
	if v.f64 != nil {
		return dev.UploadF64(dst, v.f64)
	}
	return dev.UploadF32(dst, v.f32)
}

// finite reports whether no element is NaN or infinite.
func (v *values) finite() bool {
	// x - x is 0 for every finite x and NaN otherwise, and NaN stays in a sum.
	var sum float64
	for _, x := range v.f32 {
		sum += float64(x - x)
	}
	for _, x := range v.f64 {
		sum += x - x
	}
	return sum == 0
}

// chunk is the number of elements converted at a time.
const chunk = 1 << 15

func (v *values) write(w io.Writer) error {
	buf := make([]byte, 0, chunk*8)
	for i := 0; i < v.len(); i += chunk {
		end := min(i+chunk, v.len())
		var err error
		if v.f64 != nil {
			buf, err = binary.Append(buf[:0], binary.LittleEndian, v.f64[i:end])
		} else {
			buf, err = binary.Append(buf[:0], binary.LittleEndian, v.f32[i:end])
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

func (v *values) read(r io.ReaderAt, offset int64) error {
	size := 4
	if v.f64 != nil {
		size = 8
	}
	buf := make([]byte, chunk*size)
	for i := 0; i < v.len(); i += chunk {
		end := min(i+chunk, v.len())
		b := buf[:(end-i)*size]
		if _, err := r.ReadAt(b, offset+int64(i*size)); err != nil {
			return err
		}
		var err error
		if v.f64 != nil {
			_, err = binary.Decode(b, binary.LittleEndian, v.f64[i:end])
		} else {
			_, err = binary.Decode(b, binary.LittleEndian, v.f32[i:end])
		}
		if err != nil {
			return err
		}
	}
	return nil
}
