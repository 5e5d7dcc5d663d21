// What the attention kernels have in common: which rows a block works on, which of them may
// be attended to, and dropout's bits.
#ifndef SIFT_CUDA_ATTENTION_ROWS_H
#define SIFT_CUDA_ATTENTION_ROWS_H
#include "device.h"
#include "math.h"
#include "random.h"
#include "attention.h"

// Block is a block's place: rows begin .. begin + ROWS - 1 of a sequence of n rows, the first of which is
// row `first` of the batch. n is 0 where there is nothing to do.
struct Block {
	i64 first;
	u32 n, begin, head;
};

// block_of finds the place of block (x, y): y is the head, x a number of a run of ROWS rows.
//
// The lengths of sequences are known to the device alone. A grid over (longest sequence, sequence) would
// start mostly empty blocks where lengths are mixed; a list of runs would be one more kernel to wait for.
// Instead runs are numbered so that offsets alone tell: run t of sequence s is number
// offsets[s] / ROWS + s + t. No two share a number, since floor((a + n) / R) + 1 >= floor(a / R) + ceil(n / R);
// all are below rows / ROWS + seqs, which is the grid, so at most seqs blocks are empty. A
// warp finds s, the last sequence whose first number is not above x, among 32 candidates at a time.
template <u32 ROWS> DEVICE Block block_of(const AttentionParams &p) {
	const i32 *offsets = in_global<const i32>(p.layout.offsets);
	u32 number = block_x(), low = 0, high = (u32)p.layout.seqs;
	while (high - low > 1) {
		u32 step = (high - low + 31) / 32, s = low + lane() * step;
		u32 reached = s < high && (u32)offsets[s] / ROWS + s <= number;
		UNROLL for (u32 m = 1; m < 32; m *= 2) reached += shuffle_xor(reached, m);
		low += (most(reached, 1u) - 1) * step;
		high = least(low + step, high);
	}
	i32 from = offsets[low], to = offsets[low + 1];
	Block b{from, 0, 0, block_y()};
	u32 run = (u32)from / ROWS + low;
	if (from >= 0 && to >= from && to <= p.layout.rows && to - from <= p.maxLen && number >= run) {
		b.n = (u32)(to - from);
		b.begin = (number - run) * ROWS;
	}
	// A wrong offset can hide its sequence from the search, so block s looks at those of sequence s.
	if (b.head == 0 && thread() == 0 && number < (u32)p.layout.seqs) {
		from = offsets[number], to = offsets[number + 1];
		if (from < 0 || to < from || to > p.layout.rows || to - from > p.maxLen) {
			i32 *status = in_global<i32>(p.status), none = 0;
			if (__atomic_compare_exchange_n(status, &none, 3, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
				status[1] = (i32)number;
				status[2] = from < 0 || to < from ? from : to;
			}
		}
	}
	if (b.begin >= b.n) b.n = 0;
	return b;
}

// valid_keys sets bit j%32 of words[j/32] where row j of the sequence may be attended to, up to a multiple of
// 64 rows. The next barrier shows them.
DEVICE void valid_keys(u32 *words, const AttentionParams &p, const Block &b) {
	const i32 *valid = in_global<const i32>(p.layout.keyValid) + b.first;
	for (u32 w = warp(); w < (b.n + 63) / 64 * 2; w += ATTENTION_THREADS / 32) {
		u32 j = 32 * w + lane();
		u32 bit = j < b.n && valid[j] != 0 ? 1u << lane() : 0;
		UNROLL for (u32 m = 1; m < 32; m *= 2) bit |= shuffle_xor(bit, m);
		if (lane() == 0) words[w] = bit;
	}
}

DEVICE bool bit_of(const u32 *words, u32 j) { return words[j / 32] >> j % 32 & 1; }

// kept_words is the row of `kept` for query i.
DEVICE u32 *kept_words(const AttentionParams &p, const Block &b, u32 i) {
	return in_global<u32>(p.kept) + ((b.first + i) * p.heads + b.head) * p.words;
}

// Sample is what dropout's bits of a sequence depend on.
struct Sample {
	u32 low, high;
};

DEVICE Sample sample_of(const AttentionParams &p, const Block &b) {
	RowKey key = key_of(p.drop, b.first);
	return Sample{key.sampleLow, key.sampleHigh};
}

// opaque hides from the compiler that v is the same each time: what follows from it is then computed where it
// is used, rather than kept in registers around a loop.
DEVICE u32 opaque(u32 v) {
	asm volatile("" : "+r"(v));
	return v;
}

// kept_nibble has bit e%4 for the elements e of a Philox block, 1 where e is kept.
DEVICE u32 kept_nibble(const Drop &d, Sample s, u32 block) {
	Words w = drop_words(d, s.low, s.high, block);
	return (w.v[0] >= d.threshold) | (u32)(w.v[1] >= d.threshold) << 1 | (u32)(w.v[2] >= d.threshold) << 2 | (u32)(w.v[3] >= d.threshold) << 3;
}

#endif
