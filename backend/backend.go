// Package backend is what the model asks of a device: memory, and the operations
// of a BERT encoder forward and backward. backend/cpu implements it; so do other
// devices. A model talks to a Stream, never to a Device's kernels directly.
//
// Conventions, for every operation of Kernels:
//   - Matrices are row-major. A Tensor may be a strided view (Stride > Cols).
//   - Inputs are never modified. Activation outputs are overwritten. Gradients of
//     parameters are accumulated; gradients of activations are overwritten.
//   - An output may not overlap an input unless the operation says so.
//   - A row of an output depends only on the inputs of that row (for attention, of
//     its sequence) and never on how many rows there are, on the strides, or on where
//     in memory they lie: bit for bit.
//   - Results do not depend on the number of threads, bit for bit. Reductions over
//     rows are cut into fixed chunks; there are no floating-point atomics.
//   - Zero rows or columns are legal and do nothing.
//   - There are two floating types, Info.Float and Info.Act; on most devices they are
//     one. Where Act is narrower, activations and their gradients are Act: in the comments
//     below, what is [T,...] or DLogits, but not Mean, Rstd, LSE and Delta. All else is
//     Float, and so is every sum. Values are rounded to Act when they are stored.
//   - The zero Tensor stands for "absent" where an argument is optional.
//   - Calls may only enqueue; Download and Sync block. After the first step no call
//     allocates Go memory.
package backend

import "fmt"

// DType is an element type.
type DType uint8

const (
	None DType = iota
	F32
	F64
	I32
	BF16
	F16
)

// Size returns the bytes of one element.
func (d DType) Size() int {
	switch d {
	case F64:
		return 8
	case F32, I32:
		return 4
	case BF16, F16:
		return 2
	}
	return 0
}

func (d DType) String() string {
	return [...]string{"none", "float32", "float64", "int32", "bfloat16", "float16"}[d]
}

// Buffer is device memory.
type Buffer interface {
	Bytes() int64
	Free() error
}

// Tensor is a view of a Buffer: Rows x Cols elements of DType, row-major, the first
// at element Off, successive rows Stride elements apart. The zero Tensor is "absent".
type Tensor struct {
	Buf    Buffer
	Off    int
	Rows   int
	Cols   int
	Stride int
	DType  DType
}

// Absent reports whether t is the zero Tensor.
func (t Tensor) Absent() bool { return t.Buf == nil }

// Len returns Rows * Cols.
func (t Tensor) Len() int { return t.Rows * t.Cols }

// Contiguous reports whether the rows follow one another without gaps.
func (t Tensor) Contiguous() bool { return t.Stride == t.Cols || t.Rows <= 1 }

// RowRange returns rows [i, i+n).
func (t Tensor) RowRange(i, n int) Tensor {
	t.Off += i * t.Stride
	t.Rows = n
	return t
}

// ColRange returns columns [j, j+n) of every row.
func (t Tensor) ColRange(j, n int) Tensor {
	t.Off += j
	t.Cols = n
	return t
}

// Reshape returns a contiguous tensor's elements as rows x cols.
func (t Tensor) Reshape(rows, cols int) Tensor {
	if rows*cols != t.Len() || !t.Contiguous() {
		panic(fmt.Sprintf("backend: cannot view %dx%d (stride %d) as %dx%d", t.Rows, t.Cols, t.Stride, rows, cols))
	}
	t.Rows, t.Cols, t.Stride = rows, cols, cols
	return t
}

func (t Tensor) String() string {
	if t.Absent() {
		return "absent"
	}
	return fmt.Sprintf("%s[%dx%d]", t.DType, t.Rows, t.Cols)
}

// Activations returns the type of activations.
func (i Info) Activations() DType {
	if i.Act == None {
		return i.Float
	}
	return i.Act
}

// Activation is a point-wise non-linearity.
type Activation uint8

const (
	Linear   Activation = iota
	GeluErf             // x/2 (1 + erf(x / sqrt 2))
	GeluTanh            // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
)

// Info describes a device.
type Info struct {
	Name        string // as it is opened: "cpu", "vulkan:1"
	Description string // for people: the processor, the driver
	Kind        string // "cpu", "reference", "cuda", "vulkan"
	ISA         string // "avx512", "avx2", "portable", "go"; empty off the CPU
	Threads     int
	Float       DType // the type of parameters, their gradients, statistics, logits and losses
	Act         DType // the type of activations; None means Float
	MemoryBytes int64 // 0 if unknown
}

// Device owns memory and runs kernels on it. It is used by one goroutine at a time.
type Device interface {
	Info() Info
	// Alloc returns zeroed memory aligned to at least 64 bytes.
	Alloc(bytes int64) (Buffer, error)
	// Upload copies a host slice into the contiguous tensor dst, converting float32 and
	// float64 to dst's float type; src is []float32, []float64 or []int32 of dst.Len().
	UploadF32(dst Tensor, src []float32) error
	UploadF64(dst Tensor, src []float64) error
	UploadI32(dst Tensor, src []int32) error
	// Download waits for all enqueued work and copies the contiguous tensor src to the host.
	DownloadF32(dst []float32, src Tensor) error
	DownloadF64(dst []float64, src Tensor) error
	DownloadI32(dst []int32, src Tensor) error
	Sync() error
	Close() error
	Kernels
}

// Layout places S sequences in T packed rows.
type Layout struct {
	Seqs, Rows, MaxLen int
	Offsets            Tensor // I32 [1, S+1]: sequence s has rows Offsets[s] .. Offsets[s+1]
	KeyValid           Tensor // I32 [1, T]: 1 if the row may be attended to, else 0
	RowKey             Tensor // I32 [T, 4]: sequence index, row within the sequence, sample id low and high 32 bits
}

// Drop describes inverted dropout: an element is zeroed with probability P and
// otherwise divided by 1-P. The decision is philox.Dropout(Seed, Site, Update,
// sample id, element) < philox.Threshold(P), with element =
// (row within the sequence) * Cols + column for row-wise operations and
// (head * n + i) * n + j for attention from row i to row j of a sequence of n rows.
// P == 0 means no dropout, and then RowKey may be absent.
type Drop struct {
	P      float64
	Seed   uint64
	Site   uint32 // below 2^16
	Update uint32
	RowKey Tensor // as in Layout
}

// GemmArgs is C = act(Alpha op(A) op(B) + Beta C + bias), op(X) = X or its transpose.
// op(A) is [M,K], op(B) is [K,N], C is [M,N]. A and B are both Act, or both Float; C and
// Pre are both of A's type, or both Float.
type GemmArgs struct {
	C, A, B        Tensor
	TransA, TransB bool
	Alpha, Beta    float64    // Beta 0 overwrites C whatever it held, NaN included
	Bias           Tensor     // [1,N], added to every row; optional
	Act            Activation // applied last
	Pre            Tensor     // [M,N], receives the value before Act; optional, for the backward pass
}

// LayerNormArgs is Z = dropout(X) + Residual, Y = (Z - mean) * rstd * Gamma + Beta per row,
// mean and variance (biased) over columns, rstd = 1/sqrt(var + Eps). ONNX LayerNormalization, axis -1.
type LayerNormArgs struct {
	Y, Z        Tensor // [T,H]; Z may be absent when Residual is absent and Drop.P is 0 (then Z is X)
	Mean, Rstd  Tensor // [T,1]
	X, Residual Tensor // [T,H]; Residual optional
	Gamma, Beta Tensor // [1,H]
	Eps         float64
	Drop        Drop
}

// LayerNormBackwardArgs: DZ is overwritten with dL/dZ (which is also the gradient of Residual),
// DX, if present, with dL/dX = DZ * mask / (1-P). DGamma and DBeta accumulate; each may be absent (frozen).
type LayerNormBackwardArgs struct {
	DZ, DX        Tensor // [T,H]
	DGamma, DBeta Tensor // [1,H]
	DY, Z         Tensor // [T,H]
	Mean, Rstd    Tensor // [T,1]
	Gamma         Tensor // [1,H]
	Drop          Drop
}

// AttentionArgs is multi-head scaled dot-product attention within each sequence.
// QKV is [T,3H]: queries, keys, values side by side, head h in columns h*d .. (h+1)*d of
// each, d = H/Heads. P = softmax over valid keys j of Scale * q_i.k_j; Out_i = sum_j
// dropout(P_ij) v_j. LSE [T,Heads] receives log sum exp of the scaled valid scores.
// A sequence with no valid key gives Out = 0 and LSE = 0 (and zero gradients). No
// probability matrix is stored.
type AttentionArgs struct {
	Out, LSE Tensor
	QKV      Tensor
	Layout   Layout
	Heads    int
	Scale    float64
	Drop     Drop
}

// AttentionBackwardArgs overwrites DQKV [T,3H] with the gradient of QKV given DOut [T,H].
// Delta [T,Heads] is scratch.
type AttentionBackwardArgs struct {
	DQKV, Delta    Tensor
	DOut, Out, LSE Tensor
	QKV            Tensor
	Layout         Layout
	Heads          int
	Scale          float64
	Drop           Drop
}

// EmbedArgs is Out_t = Word[IDs_t] + Position[Positions_t] + Type[Types_t]; Type and Types may be absent.
type EmbedArgs struct {
	Out                   Tensor // [T,H]
	IDs, Positions, Types Tensor // I32 [1,T]
	Word, Position, Type  Tensor // [V,H], [P,H], [Y,H]
}

// CrossEntropyArgs: per row of Logits [n,V], which are Float, with p = softmax(logits):
// Loss = LSE - logits[label], Entropy = -sum p log p, LSE = log sum exp logits,
// Correct = 1 if label is the first index of the largest logit, else 0. A label of -100
// gives Loss 0 and Correct 0 (Entropy and LSE as usual). All in one pass over the logits.
type CrossEntropyArgs struct {
	Loss, Entropy, LSE, Correct Tensor // [n,1]
	Logits                      Tensor // [n,V]
	Labels                      Tensor // I32 [1,n]
}

// CrossEntropyBackwardArgs: DLogits = Scale * (softmax(Logits) - onehot(label)), 0 in rows
// labelled -100. DLogits is Act, Logits Float; where these are one, DLogits may be Logits itself.
type CrossEntropyBackwardArgs struct {
	DLogits     Tensor // [n,V]
	Logits, LSE Tensor
	Labels      Tensor
	Scale       float64
}

// AdamWArgs is one AdamW step (Loshchilov and Hutter 2019, algorithm 2, with the
// schedule multiplier in LR) over equal-length contiguous vectors [1,n]:
//
//	g = Grad * GradScale * min(1, ClipNorm / (GradScale * sqrt(SumSq) + 1e-6))
//	M = Beta1 M + (1-Beta1) g;  V = Beta2 V + (1-Beta2) g^2
//	Param -= LR * WeightDecay * Param
//	Param -= LR * (M / (1-Beta1^Step)) / (sqrt(V / (1-Beta2^Step)) + Eps)
//
// Grad is set to zero afterwards. Half, if present, receives the new Param rounded to Act.
// ClipNorm 0 means no clipping (SumSq may then be absent). With Guard, which Queued devices
// know and which needs SumSq, nothing but Grad changes where SumSq is not finite.
type AdamWArgs struct {
	Param, Grad, M, V            Tensor
	Half                         Tensor // Act [1,n]; optional, where Act is not Float
	SumSq                        Tensor // F64 or device float [1,1]: sum of squares of all gradients, before GradScale
	ClipNorm, GradScale          float64
	Guard                        bool
	LR, Beta1, Beta2, Eps, Decay float64
	Step                         int // 1 for the first
}

// Kernels are the operations. Each returns an error of kind fault.Device when the device fails;
// shapes are checked once, by Stream, before a kernel is called.
type Kernels interface {
	Zero(x Tensor) error
	Copy(dst, src Tensor) error // same shape, any strides
	Add(y, x Tensor) error      // y += x, both Float or both Act
	// Convert: dst = src rounded to dst's type, same shape, any strides; one is Float, the other Act.
	Convert(dst, src Tensor) error

	Gemm(a GemmArgs) error
	// ColSum: dst [1,N] += sum over the rows of src [M,N] (the gradient of a bias); dst is Float.
	ColSum(dst, src Tensor) error
	// GeluBackward: dx = dy * act'(pre), all [M,N]; dx may be dy itself.
	GeluBackward(dx, dy, pre Tensor, act Activation) error
	Tanh(y, x Tensor) error
	// TanhBackward: dx = dy * (1 - y^2); dx may be dy itself.
	TanhBackward(dx, dy, y Tensor) error

	Embed(a EmbedArgs) error
	// GatherRows: dst_i = src[index_i]; index is I32 [1,n]; dst and src are both Float or both Act.
	GatherRows(dst, src, index Tensor) error
	// ScatterAddRows: dst[index_i] += src_i, for i ascending (indices may repeat); src is Act, dst Float or Act.
	ScatterAddRows(dst, src, index Tensor) error
	// Dropout: y = dropout(x), [T,H]; its own backward pass with dy for x. y may be x itself.
	Dropout(y, x Tensor, d Drop) error

	LayerNorm(a LayerNormArgs) error
	LayerNormBackward(a LayerNormBackwardArgs) error
	Attention(a AttentionArgs) error
	AttentionBackward(a AttentionBackwardArgs) error
	CrossEntropy(a CrossEntropyArgs) error
	CrossEntropyBackward(a CrossEntropyBackwardArgs) error

	// SumSquares: dst [1,1] (device float) = sum of x_i^2 of the contiguous x, summed in float64
	// within fixed chunks.
	SumSquares(dst, x Tensor) error
	AdamW(a AdamWArgs) error
}
