/* Dropout decisions: Philox4x32-10, as package philox defines it, many counters at a time.
 *
 * A round maps (c0,c1,c2,c3) to (hi(M1 c2)^c1^k0, lo(M1 c2), hi(M0 c0)^c3^k1, lo(M0 c0)).
 * Each counter word sits in the low half of a 64-bit lane, so that one widening
 * multiplication gives both halves; rubbish above the low half never reaches a product. */

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

#if defined(SIFT_512)
#define PHILOX_BLOCKS 16 /* counters in one call: two vectors of 8 hide the multiplier's latency */

/* The keep bits of 4 * PHILOX_BLOCKS elements, from counter word c0 = block on. */
INL uint64_t philox_bits(uint32_t block, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1, uint32_t threshold) {
	const __m512i m0 = _mm512_set1_epi64(PHILOX_M0), m1 = _mm512_set1_epi64(PHILOX_M1);
	const __m512i low = _mm512_set1_epi64(0xffffffff), thr = _mm512_set1_epi64(threshold);
	__m512i x[2][4];
	for (int g = 0; g < 2; g++) {
		x[g][0] = _mm512_and_si512(low, _mm512_add_epi64(_mm512_set1_epi64((long long)block + 8 * g), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)));
		x[g][1] = _mm512_set1_epi64(c1);
		x[g][2] = _mm512_set1_epi64(c2);
		x[g][3] = _mm512_set1_epi64(c3);
	}
	for (int r = 0; r < 10; r++) {
		const __m512i key0 = _mm512_set1_epi64(k0), key1 = _mm512_set1_epi64(k1);
		for (int g = 0; g < 2; g++) {
			__m512i p0 = _mm512_mul_epu32(m0, x[g][0]), p1 = _mm512_mul_epu32(m1, x[g][2]);
			x[g][0] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), x[g][1], key0, 0x96);
			x[g][2] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), x[g][3], key1, 0x96);
			x[g][1] = p1;
			x[g][3] = p0;
		}
		k0 += PHILOX_W0;
		k1 += PHILOX_W1;
	}
	uint64_t bits = 0;
	for (int w = 0; w < 4; w++) {
		uint64_t lo = _mm512_cmpge_epu64_mask(_mm512_and_si512(x[0][w], low), thr);
		uint64_t hi = _mm512_cmpge_epu64_mask(_mm512_and_si512(x[1][w], low), thr);
		bits |= _pdep_u64(lo | hi << 8, 0x1111111111111111ull << w);
	}
	return bits;
}

#elif defined(SIFT_256)
#define PHILOX_BLOCKS 16

INL uint64_t philox_bits(uint32_t block, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1, uint32_t threshold) {
	const __m256i m0 = _mm256_set1_epi64x(PHILOX_M0), m1 = _mm256_set1_epi64x(PHILOX_M1);
	const __m256i low = _mm256_set1_epi64x(0xffffffff), thr = _mm256_set1_epi64x(threshold);
	uint64_t bits = 0;
	for (int half = 0; half < 2; half++) {
		__m256i x[2][4];
		uint32_t q0 = k0, q1 = k1;
		for (int g = 0; g < 2; g++) {
			x[g][0] = _mm256_and_si256(low, _mm256_add_epi64(_mm256_set1_epi64x((long long)block + 8 * half + 4 * g), _mm256_setr_epi64x(0, 1, 2, 3)));
			x[g][1] = _mm256_set1_epi64x(c1);
			x[g][2] = _mm256_set1_epi64x(c2);
			x[g][3] = _mm256_set1_epi64x(c3);
		}
		for (int r = 0; r < 10; r++) {
			const __m256i key0 = _mm256_set1_epi64x(q0), key1 = _mm256_set1_epi64x(q1);
			for (int g = 0; g < 2; g++) {
				__m256i p0 = _mm256_mul_epu32(m0, x[g][0]), p1 = _mm256_mul_epu32(m1, x[g][2]);
				x[g][0] = _mm256_xor_si256(_mm256_srli_epi64(p1, 32), _mm256_xor_si256(x[g][1], key0));
				x[g][2] = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), _mm256_xor_si256(x[g][3], key1));
				x[g][1] = p1;
				x[g][3] = p0;
			}
			q0 += PHILOX_W0;
			q1 += PHILOX_W1;
		}
		for (int w = 0; w < 4; w++) {
			unsigned drop = 0;
			for (int g = 0; g < 2; g++)
				drop |= (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(thr, _mm256_and_si256(x[g][w], low)))) << 4 * g;
			bits |= _pdep_u64(~drop & 0xff, 0x11111111ull << w) << 32 * half;
		}
	}
	return bits;
}

#else
#define PHILOX_BLOCKS 16

COLD uint64_t philox_bits(uint32_t block, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1, uint32_t threshold) {
	uint32_t x[4][PHILOX_BLOCKS];
	for (uint32_t b = 0; b < PHILOX_BLOCKS; b++) {
		x[0][b] = block + b;
		x[1][b] = c1;
		x[2][b] = c2;
		x[3][b] = c3;
	}
	for (int r = 0; r < 10; r++) {
		for (int b = 0; b < PHILOX_BLOCKS; b++) {
			uint64_t p0 = (uint64_t)PHILOX_M0 * x[0][b], p1 = (uint64_t)PHILOX_M1 * x[2][b];
			x[0][b] = (uint32_t)(p1 >> 32) ^ x[1][b] ^ k0;
			x[2][b] = (uint32_t)(p0 >> 32) ^ x[3][b] ^ k1;
			x[1][b] = (uint32_t)p1;
			x[3][b] = (uint32_t)p0;
		}
		k0 += PHILOX_W0;
		k1 += PHILOX_W1;
	}
	uint64_t bits = 0;
	for (int b = 0; b < PHILOX_BLOCKS; b++)
		for (int w = 0; w < 4; w++)
			bits |= (uint64_t)(x[w][b] >= threshold) << (4 * b + w);
	return bits;
}
#endif

/* The words of keep bits a row of n elements needs, one more than it fills. */
#define KEEP_WORDS(n) ((n) / 64 + 2)

/* keep_row sets bit j of bits to whether element first + j of a sample's tensor is kept, for
 * 0 <= j < n. key is the row's entry of RowKey. */
COLD void keep_row(uint64_t *bits, uint64_t first, long n, const struct drop *d, const int32_t *key) {
	uint32_t block = (uint32_t)(first / 4);
	unsigned shift = (unsigned)(first % 4);
	uint32_t c1 = d->site | (uint32_t)key[3] << 16, c3 = (uint32_t)key[2];
	uint64_t word = philox_bits(block, c1, d->update, c3, d->key0, d->key1, d->threshold);
	if (shift == 0) {
		for (long i = 0;; i++) {
			bits[i] = word;
			if (64 * (i + 1) >= n)
				return;
			block += PHILOX_BLOCKS;
			word = philox_bits(block, c1, d->update, c3, d->key0, d->key1, d->threshold);
		}
	}
	for (long i = 0; 64 * i < n; i++) {
		block += PHILOX_BLOCKS;
		uint64_t next = philox_bits(block, c1, d->update, c3, d->key0, d->key1, d->threshold);
		bits[i] = word >> shift | next << (64 - shift);
		word = next;
	}
}

/* The mask of the vector at column j, a multiple of VL. */
INL vm keep_at(const uint64_t *bits, long j) { return vbits((unsigned)(bits[j / 64] >> j % 64)); }
