//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

/*
#include "shim.h"
*/
import "C"

import (
	"unsafe"

	vk "github.com/vulkan-go/vulkan"

	"sift/backend"
)

// cooperative is how a device's matrix unit is used (VK_KHR_cooperative_matrix): the tile
// it multiplies, and the blocks of gemm_coop.comp.
type cooperative struct {
	m, n, k        uint32 // a tile: C [m,n] += A [m,k] B [k,n], float16 operands, float32 sums
	bm, bn, bk     uint32 // a workgroup's block
	subgroups, per uint32 // of a workgroup, and tiles of each
	works          bool   // the probe has passed
}

// VkComponentTypeKHR and VkScopeKHR.
const (
	componentFloat16 = 0
	componentFloat32 = 1
	scopeSubgroup    = 3
)

// findCooperative returns how to use the matrix unit, with m 0 if there is none that takes
// float16 and sums in float32.
func (d *device) findCooperative() cooperative {
	p := &d.physical
	if !d.half || p.caps.float16 == 0 || p.caps.memory_model == 0 || !hasExtension(p.handle, "VK_KHR_cooperative_matrix") {
		return cooperative{}
	}
	var list [64]C.struct_sv_coop
	count := C.sv_coop_list(unsafe.Pointer(d.in.handle), unsafe.Pointer(p.handle), &list[0], C.int(len(list)))
	var best cooperative
	for _, t := range list[:count] {
		if t.a != componentFloat16 || t.b != componentFloat16 || t.c != componentFloat32 || t.result != componentFloat32 || t.scope != scopeSubgroup {
			continue
		}
		c := cooperative{m: uint32(t.m), n: uint32(t.n), k: uint32(t.k), subgroups: 4, per: 4}
		// Four tiles each way, a row of them to each subgroup.
		c.bm, c.bn, c.bk = 4*c.m, 4*c.n, 2*c.k
		if better(c, best) {
			best = c
		}
	}
	if int(best.subgroups)*d.caps.subgroup > d.caps.maxInvocations {
		return cooperative{}
	}
	return best
}

// better prefers the square tile of 16, which every vendor's unit takes, then larger ones.
func better(c, than cooperative) bool {
	square := func(c cooperative) bool { return c.m == 16 && c.n == 16 && c.k == 16 }
	if square(c) != square(than) {
		return square(c)
	}
	return c.m*c.n*c.k > than.m*than.n*than.k
}

// hasExtension reports whether a device offers an extension.
func hasExtension(handle vk.PhysicalDevice, name string) bool {
	var n uint32
	if vk.EnumerateDeviceExtensionProperties(handle, "", &n, nil) != vk.Success || n == 0 {
		return false
	}
	list := make([]vk.ExtensionProperties, n)
	if r := vk.EnumerateDeviceExtensionProperties(handle, "", &n, list); r != vk.Success && r != vk.Incomplete {
		return false
	}
	for i := range list[:n] {
		list[i].Deref()
		if vk.ToString(list[i].ExtensionName[:]) == name {
			return true
		}
	}
	return false
}

// gemmCooperative is Gemm on the matrix unit. It reports whether it could: operands that
// can only be cut along k are left to the other kernels.
func (d *device) gemmCooperative(a backend.GemmArgs) (bool, error) {
	k := a.A.Cols
	step := d.rows(a.C, a.Pre, a.A)
	if a.TransA {
		k, step = a.A.Rows, d.rows(a.C, a.Pre)
		if extent(a.A) > d.caps.maxRange {
			return false, nil
		}
	}
	if extent(a.B) > d.caps.maxRange {
		return false, nil
	}
	p := &d.coop
	step = max(step/int(p.bm)*int(p.bm), 1)
	for at := 0; at < a.C.Rows; at += step {
		m := min(step, a.C.Rows-at)
		left := a.A
		if a.TransA {
			left = left.ColRange(at, m)
		} else {
			left = left.RowRange(at, m)
		}
		c := d.call("gemm_coop", p.subgroups*uint32(d.caps.subgroup), p.m, p.n, p.k, p.bm, p.bn, p.bk, p.subgroups, p.per,
			flag(a.TransA), flag(a.TransB), flag(!a.Bias.Absent()), flag(!a.Pre.Absent()), flag(a.Beta != 0), uint32(a.Act))
		if a.Beta != 0 {
			c.update(a.C.RowRange(at, m))
		} else {
			c.write(a.C.RowRange(at, m))
		}
		c.read(left)
		c.read(a.B)
		c.read(a.Bias)
		if a.Pre.Absent() {
			c.write(a.Pre)
		} else {
			c.write(a.Pre.RowRange(at, m))
		}
		c.u32(uint32(m), uint32(a.C.Cols), uint32(k))
		c.f32(a.Alpha, a.Beta)
		if err := c.dispatch((a.C.Cols+int(p.bn)-1)/int(p.bn), (m+int(p.bm)-1)/int(p.bm), 1); err != nil {
			return false, err
		}
	}
	return true, nil
}

// probe multiplies matrices of small integers on the matrix unit in every form and
// requires the exact products: there are drivers that offer the extension for hardware
// that has no such unit, or whose subgroups are not of the size they report. Sums reach
// beyond what float16 can hold exactly.
func (d *device) probe() (bool, error) {
	const m, n, k = 70, 75, 45
	value := func(i int) float32 { return float32((i*7919+i/13*104729)%129 - 64) }
	left, b := make([]float32, m*k), make([]float32, k*n)
	for i := range left {
		left[i] = value(i)
	}
	for i := range b {
		b[i] = value(3*i + 1)
	}
	want := make([]float32, m*n)
	for i := range m {
		for j := range n {
			for p := range k {
				want[i*n+j] += left[i*k+p] * b[p*n+j]
			}
		}
	}
	buf, err := d.Alloc(4 * (m*k + k*n + m*n))
	if err != nil {
		return false, err
	}
	defer func() { _ = buf.Free() }()
	all := backend.NewTensor(buf, backend.F32, 1, m*k+k*n+m*n)
	got := make([]float32, m*n)
	for form := range 4 {
		transA, transB := form&1 != 0, form&2 != 0
		A, B := all.ColRange(0, m*k).Reshape(m, k), all.ColRange(m*k, k*n).Reshape(k, n)
		la, lb := left, b
		if transA {
			A, la = A.Reshape(k, m), transposed(left, m, k)
		}
		if transB {
			B, lb = B.Reshape(n, k), transposed(b, k, n)
		}
		C := all.ColRange(m*k+k*n, m*n).Reshape(m, n)
		if err := d.UploadF32(A, la); err != nil {
			return false, err
		}
		if err := d.UploadF32(B, lb); err != nil {
			return false, err
		}
		if _, err := d.gemmCooperative(backend.GemmArgs{C: C, A: A, B: B, TransA: transA, TransB: transB, Alpha: 1}); err != nil {
			return false, nil // a driver that cannot compile it
		}
		if err := d.DownloadF32(got, C); err != nil {
			return false, err
		}
		for i, v := range got {
			if v != want[i] {
				return false, nil
			}
		}
	}
	return true, nil
}

// transposed returns the transpose of a rows x cols matrix.
func transposed(x []float32, rows, cols int) []float32 {
	y := make([]float32, len(x))
	for i := range rows {
		for j := range cols {
			y[j*rows+i] = x[i*cols+j]
		}
	}
	return y
}
