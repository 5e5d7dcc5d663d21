// Dropout's random bits: those of package philox, on the device.
#ifndef SIFT_CUDA_RANDOM_H
#define SIFT_CUDA_RANDOM_H
#include "device.h"
#include "quad.h"

struct Words {
	u32 v[4];
};

// philox is block c of Philox4x32-10 under the key (Salmon et al. 2011; package philox).
DEVICE Words philox(u32 keyLow, u32 keyHigh, Words c) {
	UNROLL for (int round = 0; round < 10; round++) {
		u64 p = (u64)0xD2511F53u * c.v[0], q = (u64)0xCD9E8D57u * c.v[2];
		c = Words{{(u32)(q >> 32) ^ c.v[1] ^ keyLow, (u32)q, (u32)(p >> 32) ^ c.v[3] ^ keyHigh, (u32)p}};
		keyLow += 0x9E3779B9u;
		keyHigh += 0xBB67AE85u;
	}
	return c;
}

// RowKey is a row of Layout.RowKey: what the bits of a row depend on.
struct RowKey {
	u32 row, sampleLow, sampleHigh;
};

DEVICE RowKey key_of(const Drop &d, i64 row) {
	const u32 *k = row_of<const u32>(d.rowKey, row);
	return RowKey{k[1], k[2], k[3]};
}

// drop_words decide the elements 4 block .. 4 block + 3 of a sample.
DEVICE Words drop_words(const Drop &d, u32 sampleLow, u32 sampleHigh, u32 block) {
	return philox(d.seedLow, d.seedHigh, Words{{block, d.site | sampleHigh << 16, *in_global<const u32>(d.update), sampleLow}});
}

// drop_factor is 0 for a dropped element and `kept` for another.
DEVICE f32 drop_factor(const Drop &d, u32 word) { return word < d.threshold ? 0.0f : d.kept; }

// drop_element is the factor of one element alone.
DEVICE f32 drop_element(const Drop &d, u32 sampleLow, u32 sampleHigh, u32 element) {
	Words w = drop_words(d, sampleLow, sampleHigh, element >> 2);
	u32 i = element & 3;
	return drop_factor(d, i < 2 ? (i == 0 ? w.v[0] : w.v[1]) : (i == 2 ? w.v[2] : w.v[3]));
}

// drop_factors are those of columns col .. col + 3 of a row of `cols` columns, col a multiple of 4. Where
// rows are whole blocks that takes one block of random bits, else two.
DEVICE Four drop_factors(const Drop &d, RowKey k, u32 cols, u32 col) {
	u32 first = k.row * cols + col, shift = first & 3;
	Words a = drop_words(d, k.sampleLow, k.sampleHigh, first >> 2);
	Four f;
	if (shift == 0) {
		UNROLL for (int i = 0; i < 4; i++) f.v[i] = drop_factor(d, a.v[i]);
		return f;
	}
	Words b = drop_words(d, k.sampleLow, k.sampleHigh, (first >> 2) + 1);
	u32 all[8] = {a.v[0], a.v[1], a.v[2], a.v[3], b.v[0], b.v[1], b.v[2], b.v[3]};
	UNROLL for (u32 i = 0; i < 4; i++) {
		u32 w = shift == 1 ? all[i + 1] : shift == 2 ? all[i + 2] : all[i + 3];
		f.v[i] = drop_factor(d, w);
	}
	return f;
}

#endif
