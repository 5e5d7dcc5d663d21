/* All kernels for one instruction set. The including file defines SIFT_TABLE, the name of
 * its table, and SIFT_512, SIFT_256 or neither. */
#include "sift.h"
#include "simd.h"
#include "vmath.h"
#include "philox.h"
#include "tile.h"
#include "gemm.h"
#include "rows.h"
#include "index.h"
#include "layernorm.h"
#include "attention.h"
#include "crossentropy.h"
#include "optimizer.h"
#include "peak.h"

const struct entry SIFT_TABLE[OP_COUNT] = {
	[OP_ZERO] = {zero_run, rows_need},
	[OP_COPY] = {copy_run, rows_need},
	[OP_ADD] = {add_run, map_need},
	[OP_GEMM] = {gemm_run, gemm_need},
	[OP_COLSUM] = {colsum_run, colsum_need},
	[OP_GELU_BACKWARD] = {gelu_backward_run, map_need},
	[OP_TANH] = {tanh_run, map_need},
	[OP_TANH_BACKWARD] = {tanh_backward_run, map_need},
	[OP_EMBED] = {embed_run, embed_need},
	[OP_GATHER] = {gather_run, index_need},
	[OP_SCATTER_ADD] = {scatter_add_run, index_need},
	[OP_DROPOUT] = {dropout_run, map_need},
	[OP_LAYERNORM] = {layernorm_run, layernorm_need},
	[OP_LAYERNORM_BACKWARD] = {layernorm_backward_run, layernorm_backward_need},
	[OP_ATTENTION] = {attention_run, attention_need},
	[OP_ATTENTION_BACKWARD] = {attention_backward_run, attention_backward_need},
	[OP_CROSSENTROPY] = {crossentropy_run, crossentropy_need},
	[OP_CROSSENTROPY_BACKWARD] = {crossentropy_backward_run, crossentropy_need},
	[OP_SUMSQ] = {sumsq_run, sumsq_need},
	[OP_ADAMW] = {adamw_run, adamw_need},
	[OP_PEAK] = {peak_run, peak_need},
};
