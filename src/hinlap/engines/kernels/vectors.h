/* Vectors of 16 numbers, for all kernels.

   type: 0 float32, 1 bfloat16; what is computed is float32. Threads are OpenMP's, those of torch.
 */

#include <immintrin.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || \
    !defined(__AVX512VL__)
#error "these kernels need AVX-512"
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE uint16_t rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0; /* not a number */
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

INLINE float number(const void* at, long i, int type) {
    if (!type) return ((const float*)at)[i];
    uint32_t bits = (uint32_t)((const uint16_t*)at)[i] << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* The first n of 16; all or none where n is beyond. */
INLINE __mmask16 first(long n) {
    return n < 16 ? (__mmask16)((1u << (n > 0 ? n : 0)) - 1) : 0xffff;
}

/* 16 numbers from i on, zeros after the first n. */
INLINE __m512 some_numbers(const void* at, long i, long n, int type) {
    __mmask16 mask = first(n);
    if (!type) return _mm512_maskz_loadu_ps(mask, (const float*)at + i);
    __m256i half = _mm256_maskz_loadu_epi16(mask, (const uint16_t*)at + i);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

INLINE void put(void* at, long i, float x, int type) {
    if (type)
        ((uint16_t*)at)[i] = rounded(x);
    else
        ((float*)at)[i] = x;
}

/* e to the x, within 2 units in the last place; what is not a number stays none. */
INLINE __m512 exponential(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-104.f), x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.f)));
    return _mm512_scalef_ps(p, n);
}

/* The sums of 16 vectors as one. */
INLINE __m512 sums_of(const __m512* v) {
    __m512 a[8], b[4], c[2];
    const __m512i low1 =
        _mm512_setr_epi32(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
    const __m512i high1 =
        _mm512_setr_epi32(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    const __m512i low2 =
        _mm512_setr_epi32(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    const __m512i high2 =
        _mm512_setr_epi32(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_add_ps(_mm512_permutex2var_ps(v[2 * i], low1, v[2 * i + 1]),
                             _mm512_permutex2var_ps(v[2 * i], high1, v[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        b[i] = _mm512_add_ps(_mm512_permutex2var_ps(a[2 * i], low2, a[2 * i + 1]),
                             _mm512_permutex2var_ps(a[2 * i], high2, a[2 * i + 1]));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_add_ps(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xdd));
    __m512 s = _mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88),
                             _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
    return s;
}

/* The nearest bfloat16 numbers, in the lower halves. */
INLINE __m512i halves(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    up = _mm512_srli_epi32(_mm512_add_epi32(bits, up), 16);
    __mmask16 none = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_epi32(up, none, _mm512_set1_epi32(0x7fc0));
}

/* As the model's own operations would have kept it before the next of them. */
INLINE __m512 kept(int type, __m512 x) {
    return type ? _mm512_castsi512_ps(_mm512_slli_epi32(halves(x), 16)) : x;
}

/* silu(gate) * up */
INLINE __m512 silu_times(int type, __m512 gate, __m512 up) {
    gate = kept(type, gate);
    __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), gate));
    __m512 silu = _mm512_div_ps(gate, _mm512_add_ps(_mm512_set1_ps(1.f), e));
    return _mm512_mul_ps(kept(type, silu), kept(type, up));
}

/* Up to 16 numbers from i on. */
INLINE void put_some(void* at, long i, long n, __m512 x, int type) {
    __mmask16 mask = first(n);
    if (!type)
        _mm512_mask_storeu_ps((float*)at + i, mask, x);
    else
        _mm256_mask_storeu_epi16((uint16_t*)at + i, mask, _mm512_cvtepi32_epi16(halves(x)));
}

/* Held in a register: compilers would load it again for each use. */
INLINE __m512 held(__m512 x) {
    __asm__("" : "+v"(x));
    return x;
}

/* 16 vectors of 16 words, turned: the i-th words of all become the i-th vector. */
INLINE void turn_words(const __m512i* from, __m512i* to) {
    __m512i a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(from[i], from[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(from[i], from[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    /* fours of b[4 i + j]: word j, 4 + j, 8 + j, 12 + j of vectors 4 i to 4 i + 3 */
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m512i even[2], odd[2];
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            even[i] = _mm512_shuffle_i32x4(b[8 * i + j], b[8 * i + 4 + j], 0x88);
            odd[i] = _mm512_shuffle_i32x4(b[8 * i + j], b[8 * i + 4 + j], 0xdd);
        }
        to[j] = _mm512_shuffle_i32x4(even[0], even[1], 0x88);
        to[4 + j] = _mm512_shuffle_i32x4(odd[0], odd[1], 0x88);
        to[8 + j] = _mm512_shuffle_i32x4(even[0], even[1], 0xdd);
        to[12 + j] = _mm512_shuffle_i32x4(odd[0], odd[1], 0xdd);
    }
}
