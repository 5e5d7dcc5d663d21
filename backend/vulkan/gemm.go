//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import (
	"math"

	"sift/backend"
)

// product is a way to multiply matrices: a kernel with its block sizes. All ways give the
// same bits (shaders/gemm.glsl), so the choice among them is one of time alone.
type product struct {
	name   string
	kernel string
	local  uint32    // invocations of a workgroup
	bm, bn uint32    // rows and columns of C it makes
	lanes  int       // size of subgroup it is written for, 0: any
	block  [3]uint32 // BK, TM, TN of gemm_blocked
}

// products are all ways, in order of preference where time does not decide. The blocked
// ones are for GPUs: 32 x 32 for small matrices, 64 x 64 for small register files, 128 x 64
// and 128 x 128 for more arithmetic per byte of shared memory. The lanes are for drivers
// that run on a CPU.
var products = [...]product{
	{name: "blocked64x64", kernel: "gemm_blocked", local: 256, bm: 64, bn: 64, block: [3]uint32{16, 4, 4}},
	{name: "blocked64x64x8", kernel: "gemm_blocked", local: 128, bm: 64, bn: 64, block: [3]uint32{16, 8, 4}},
	{name: "blocked128x64", kernel: "gemm_blocked", local: 256, bm: 128, bn: 64, block: [3]uint32{16, 8, 4}},
	{name: "blocked128x128", kernel: "gemm_blocked", local: 256, bm: 128, bn: 128, block: [3]uint32{8, 8, 8}},
	{name: "blocked32x32", kernel: "gemm_blocked", local: 64, bm: 32, bn: 32, block: [3]uint32{8, 4, 4}},
	{name: "lanes8", kernel: "gemm_lanes8", local: 8, bm: 32, bn: 64, lanes: 8},
	{name: "lanes4", kernel: "gemm_lanes4", local: 4, bm: 16, bn: 32, lanes: 4},
}

// shared returns the bytes of shared memory of a workgroup.
func (p *product) shared() int {
	if p.lanes > 0 {
		return int(4 * p.bm * p.bn)
	}
	return int(4 * 2 * p.block[0] * (p.bm + p.bn))
}

// VkSubgroupFeatureFlagBits and VkShaderStageFlagBits.
const (
	subgroupShuffle = 0x10
	stageCompute    = 0x20
)

// allows reports whether the device can run a way of multiplying.
func (d *device) allows(p *product) bool {
	if p.lanes > 0 {
		c := &d.physical.caps
		if d.caps.subgroup != p.lanes || c.subgroup_operations&subgroupShuffle == 0 || c.subgroup_stages&stageCompute == 0 {
			return false
		}
	}
	return int(p.local) <= d.caps.maxInvocations && p.shared() <= d.caps.sharedBytes
}

// Gemm cuts the product so that every operand fits a binding: C by rows (and columns, if
// B is transposed), and, where that does not shorten A or B, the sum over k. Then the sums
// of one part are kept and the next part goes on from them, to the same bits.
func (d *device) Gemm(a backend.GemmArgs) error {
	if a.C.Len() == 0 {
		return nil
	}
	if d.coop.works {
		if done, err := d.gemmCooperative(a); done || err != nil {
			return err
		}
	}
	rows, cols := d.rows(a.C, a.Pre), a.C.Cols
	k := a.A.Cols
	depth := k
	if a.TransA {
		k = a.A.Rows
		depth = min(k, d.rows(a.A))
	} else {
		rows = min(rows, d.rows(a.A))
	}
	if a.TransB {
		cols = min(cols, d.rows(a.B))
	} else {
		depth = min(depth, d.rows(a.B))
	}
	rows = min(rows, a.C.Rows)
	if depth < k {
		// The sums kept between parts must fit a binding too.
		if cols > 64 {
			cols = min(cols, max(64, int(d.caps.maxRange/(4*64))))
		}
		rows = min(rows, max(1, int(d.caps.maxRange/4)/cols))
	}
	rows, cols, depth = blocked(rows, a.C.Rows), blocked(cols, a.C.Cols), blocked(depth, k)
	for i := 0; i < a.C.Rows; i += rows {
		m := min(rows, a.C.Rows-i)
		for j := 0; j < a.C.Cols; j += cols {
			n := min(cols, a.C.Cols-j)
			if err := d.gemmPart(a, i, m, j, n, k, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// blocked rounds the length of parts of a whole down to whole blocks, if there are any.
func blocked(part, whole int) int {
	switch {
	case part >= whole:
		return max(whole, 1)
	case part >= 128:
		return part &^ 127
	case part >= 4:
		return part &^ 3
	}
	return part
}

// gemmPart makes rows i .. i+m-1 and columns j .. j+n-1 of C, depth terms of the sums at a time.
func (d *device) gemmPart(a backend.GemmArgs, i, m, j, n, k, depth int) error {
	whole := a
	a.C = a.C.RowRange(i, m).ColRange(j, n)
	if !a.Pre.Absent() {
		a.Pre = a.Pre.RowRange(i, m).ColRange(j, n)
	}
	if !a.Bias.Absent() {
		a.Bias = a.Bias.ColRange(j, n)
	}
	var sums backend.Tensor
	if depth < k {
		s, err := d.scratch(m * n)
		if err != nil {
			return err
		}
		sums = s.Reshape(m, n)
	}
	for at := 0; at == 0 || at < k; at += depth {
		length := min(depth, k-at)
		if whole.TransA {
			a.A = whole.A.RowRange(at, length).ColRange(i, m)
		} else {
			a.A = whole.A.RowRange(i, m).ColRange(at, length)
		}
		if whole.TransB {
			a.B = whole.B.RowRange(j, n).ColRange(at, length)
		} else {
			a.B = whole.B.RowRange(at, length).ColRange(j, n)
		}
		carry := uint32(0)
		if at > 0 {
			carry |= carryIn
		}
		if at+length < k {
			carry |= carryOut
		}
		p, err := d.choose(a, m, n, length)
		if err != nil {
			return err
		}
		if err := d.gemmCall(p, a, m, n, length, carry, sums); err != nil {
			return err
		}
	}
	return nil
}

// Where sums begin and go (CARRY in shaders/gemm.glsl).
const (
	carryIn  = 1
	carryOut = 2
)

// gemmCall is one dispatch of p.
func (d *device) gemmCall(p *product, a backend.GemmArgs, m, n, k int, carry uint32, sums backend.Tensor) error {
	last := carry&carryOut == 0
	var flags uint32 // what follows the sum
	if last {
		flags = flag(!a.Bias.Absent()) | flag(!a.Pre.Absent())<<1 | flag(a.Beta != 0)<<2 | flag(aligned(a.C) && aligned(a.Pre))<<3 | uint32(a.Act)<<4
	}
	transA, transB, vector := flag(a.TransA), flag(a.TransB), flag(aligned(a.A) && aligned(a.B))
	var c *call
	if p.lanes > 0 {
		c = d.call(p.kernel, p.local, transA, transB, vector, flag(d.half), carry, flag(k%4 != 0))
	} else {
		fixed := flags
		if p.bm == 32 { // cheap enough to decide when it runs
			fixed = math.MaxUint32
		}
		c = d.call(p.kernel, p.local, transA, transB, vector, flag(d.half), carry, fixed, p.bm, p.bn, p.block[0], p.block[1], p.block[2])
	}
	switch {
	case !last:
		c.read(backend.Tensor{})
	case a.Beta != 0:
		c.update(a.C)
	default:
		c.write(a.C)
	}
	c.read(a.A)
	c.read(a.B)
	c.read(a.Bias)
	if last {
		c.write(a.Pre)
	} else {
		c.write(backend.Tensor{})
	}
	switch carry {
	case carryIn:
		c.read(sums)
	case carryOut:
		c.write(sums)
	default:
		c.update(sums)
	}
	across := (n + int(p.bn) - 1) / int(p.bn)
	c.u32(uint32(m), uint32(n), uint32(k), uint32(across))
	c.f32(a.Alpha, a.Beta)
	c.u32(flags)
	return c.groups(across * ((m + int(p.bm) - 1) / int(p.bm)))
}
