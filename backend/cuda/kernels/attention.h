// Parameters of the attention kernels, and the sizes that their launches go by.
#ifndef SIFT_CUDA_ATTENTION_H
#define SIFT_CUDA_ATTENTION_H
#include "types.h"

// AttentionParams are those of the forward and the backward pass, which ignore each other's.
typedef struct AttentionParams {
	Matrix qkv, out;          // [T,3H], [T,H]
	Matrix dqkv, dout;        // [T,3H], [T,H]; backward
	Matrix lse, delta;        // f32 [T,heads]; delta: backward
	PackedLayout layout;
	Drop drop;
	u64 kept;                 // backward with dropout: u32 [T, heads, words], bit j%32 of word j/32 tells that key j is kept
	u64 status;
	i32 heads, cols;          // of a head: H = heads * cols
	i32 maxLen, words;        // words: 2 for every 64 rows of maxLen
	u32 vector;               // rows and heads begin at multiples of 16 bytes
	f32 scale;
} AttentionParams;

// The float32 kernels are made for heads of 32, 64, 128 and 256 columns, D; a narrower head
// computes with zeros beyond its columns. A block of ATTENTION_THREADS threads owns
// ATTENTION_ROWS(D) queries or keys and meets the other side in tiles of ATTENTION_TILE rows.
#define ATTENTION_THREADS 128
#define ATTENTION_TILE 64
#define ATTENTION_ROWS(D) ((D) <= 64 ? 64 : (D) == 128 ? 32 : 8)

// Bytes of dynamic shared memory, before 4 bytes for every 32 rows of maxLen.
#define ATTENTION_MOST(a, b) ((a) > (b) ? (a) : (b))
#define ATTENTION_WEIGHTS(D) (ATTENTION_ROWS(D) * ATTENTION_TILE)
#define ATTENTION_SHARED(D) (4 * (ATTENTION_ROWS(D) * (D) + ((D) == 256 ? ATTENTION_TILE * (D) + ATTENTION_WEIGHTS(D) : \
	ATTENTION_TILE * (D) + ATTENTION_MOST(ATTENTION_TILE * (D), ATTENTION_WEIGHTS(D)))))
#define ATTENTION_DQ_SHARED(D) (ATTENTION_SHARED(D) + 4 * ATTENTION_ROWS(D) * (D))
#define ATTENTION_DKV_SHARED(D) (4 * (2 * ATTENTION_ROWS(D) * (D) + ((D) >= 128 ? 1 : 2) * ATTENTION_TILE * (D) + ATTENTION_WEIGHTS(D)))

// The bf16 kernels keep two tiles of both operands, 2 bytes an element; the second also, for each query
// of a tile, LSE, Delta and 64 bits.
#define ATTENTION_BF16_SHARED(D) (8 * ATTENTION_TILE * (D))
#define ATTENTION_BF16_DKV_SHARED(D) (ATTENTION_BF16_SHARED(D) + 32 * ATTENTION_TILE)

#endif
