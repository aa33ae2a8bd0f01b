/* Products of few rows: every weight is read once, as it lies in the model, at the memory's speed.

   Each sum is taken in one order for two rows and more, in another for one. */

#include "kernels.h"
#include "vectors.h"

enum { TILE = 4, AHEAD = 4096 };

int hinlap_has_bfloat16(void) {
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

INLINE __m512i loaded(int type, uint32_t mask, const void* at) {
    if (mask == 0xffffffff) return _mm512_loadu_si512(at);
    return type ? _mm512_maskz_loadu_epi16(mask, at)
                : _mm512_maskz_loadu_epi32((__mmask16)mask, at);
}

/* sum + a * b, of 16 float32 or 32 bfloat16 numbers, two to a sum. */
INLINE __m512 added(int type, __m512 sum, __m512i a, __m512i b) {
#ifdef __AVX512BF16__
    if (type) return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#endif
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
}

INLINE uint32_t first_lanes(long n) { return n >= 32 ? 0xffffffff : (1u << n) - 1; }

/* The product of two rows; the second comes from memory, and so will what follows it. */
INLINE float dot(int type, const char* x, const char* w, long in) {
    __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                      _mm512_setzero_ps()};
    long step = type ? 32 : 16, i = 0;
    for (; i + 4 * step <= in; i += 4 * step)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            long at = 64 * (i / step + j);
            _mm_prefetch(w + at + AHEAD, _MM_HINT_T1);
            sums[j] = added(type, sums[j], loaded(type, 0xffffffff, x + at),
                            loaded(type, 0xffffffff, w + at));
        }
    for (; i < in; i += step) {
        long at = 64 * (i / step);
        uint32_t mask = in - i < step ? first_lanes(in - i) : 0xffffffff;
        sums[0] = added(type, sums[0], loaded(type, mask, x + at), loaded(type, mask, w + at));
    }
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
}

/* What is wanted next from memory: lines of 64 bytes a step. */
typedef struct {
    const char* at;
    long lines;
} Next;

/* One vector of each row's numbers, from i on, times that of four weights. */
INLINE void one_step(int type, int rows, uint32_t mask, const void* x, const void* const* w,
                     long in, long i, Next next, __m512 acc[TILE][TILE]) {
    long size = type ? 2 : 4;
    __m512i weights[TILE];
    const char* at = next.at + next.lines * size * i;
    _mm_prefetch(at, _MM_HINT_T1);
    _mm_prefetch(at + 64, _MM_HINT_T1);
    if (next.lines > 2) _mm_prefetch(at + 128, _MM_HINT_T1), _mm_prefetch(at + 192, _MM_HINT_T1);
#pragma GCC unroll 4
    for (int o = 0; o < TILE; o++) {
        weights[o] = _mm512_castps_si512(
            held(_mm512_castsi512_ps(loaded(type, mask, (const char*)w[o] + size * i))));
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        __m512i row = loaded(type, mask, (const char*)x + (r * in + i) * size);
#pragma GCC unroll 4
        for (int o = 0; o < TILE; o++) acc[r][o] = added(type, acc[r][o], row, weights[o]);
    }
}

/* sums[r][o] of x (rows, in) and four rows of weights, rows a constant. */
INLINE void tile(int type, int rows, const void* x, const void* const* w, long in, Next next,
                 float sums[TILE][TILE]) {
    __m512 acc[TILE][TILE];
#pragma GCC unroll 4
    for (int r = 0; r < TILE; r++)
#pragma GCC unroll 4
        for (int o = 0; o < TILE; o++) acc[r][o] = _mm512_setzero_ps();
    long step = type ? 32 : 16, whole = in / step * step;
    for (long i = 0; i < whole; i += step) one_step(type, rows, 0xffffffff, x, w, in, i, next, acc);
    if (whole < in) one_step(type, rows, first_lanes(in - whole), x, w, in, whole, next, acc);
    _mm512_storeu_ps(sums, sums_of(acc[0]));
}

INLINE void any_tile(int type, long rows, const void* x, const void* const* w, long in, Next next,
                     float sums[TILE][TILE]) {
    switch (rows) {
        case 1:
            tile(type, 1, x, w, in, next, sums);
            break;
        case 2:
            tile(type, 2, x, w, in, next, sums);
            break;
        case 3:
            tile(type, 3, x, w, in, next, sums);
            break;
        default:
            tile(type, 4, x, w, in, next, sums);
    }
}

/* Where a thread's share of n outputs begins: whole tiles. */
INLINE long share(long n, long part, long parts) {
    return part == parts ? n : n / TILE * part / parts * TILE;
}

/* y (rows, out) = x (rows, in) W' + b of contiguous x, W (out, in), b or none: outputs [from, to).
 */
INLINE void linear(int type, const char* x, const char* w, const void* bias, void* y, long rows,
                   long in, long out, long from, long to) {
    long row = in * (type ? 2 : 4);
    if (rows == 1) {
        for (long o = from; o < to; o++)
            put(y, o, dot(type, x, w + o * row, in) + (bias ? number(bias, o, type) : 0.f), type);
        return;
    }
    for (long o = from; o < to; o += TILE) {
        long outs = to - o < TILE ? to - o : TILE;
        const void* at[TILE];
        for (long i = 0; i < TILE; i++) at[i] = w + (o + (i < outs ? i : 0)) * row;
        /* the next four weights' rows come from memory while these are multiplied */
        Next next = {w + (o + TILE) * row, rows <= TILE ? 4 : 2};
        for (long r = 0; r < rows; r += TILE) {
            long some = rows - r < TILE ? rows - r : TILE;
            float sums[TILE][TILE];
            any_tile(type, some, x + r * row, at, in, next, sums);
            for (long i = 0; i < some; i++)
                for (long j = 0; j < outs; j++)
                    put(y, (r + i) * out + o + j,
                        sums[i][j] + (bias ? number(bias, o + j, type) : 0.f), type);
            next.at += next.lines * row;
        }
    }
}

/* Products of the same contiguous x (rows, in). */
void hinlap_linear(int type, const void* x, const Layer* layers, long n, long rows, long in) {
    long parts = omp_get_max_threads();
#pragma omp parallel for schedule(static, 1)
    for (long part = 0; part < parts; part++)
        for (const Layer* l = layers; l < layers + n; l++) {
            long from = share(l->out, part, parts), to = share(l->out, part + 1, parts);
            if (type)
                linear(1, x, l->w, l->bias, l->y, rows, in, l->out, from, to);
            else
                linear(0, x, l->w, l->bias, l->y, rows, in, l->out, from, to);
        }
}

/* y (rows, out) = silu(x G') * (x U') of contiguous x, G and U (out, in): outputs [from, to). */
INLINE void gated(int type, const char* x, const char* gate, const char* up, void* y, long rows,
                  long in, long out, long from, long to) {
    long row = in * (type ? 2 : 4);
    if (rows == 1) {
        for (long o = from; o < to; o += 16) {
            float gates[16] = {0}, ups[16] = {0};
            long some = to - o < 16 ? to - o : 16;
            for (long j = 0; j < some; j++) gates[j] = dot(type, x, gate + (o + j) * row, in);
            for (long j = 0; j < some; j++) ups[j] = dot(type, x, up + (o + j) * row, in);
            put_some(y, o, some, silu_times(type, _mm512_loadu_ps(gates), _mm512_loadu_ps(ups)),
                     type);
        }
        return;
    }
    for (long o = from; o < to; o += 2) {
        long second = o + 1 < to ? o + 1 : o;
        const void* at[TILE] = {gate + o * row, gate + second * row, up + o * row,
                                up + second * row};
        Next next = {gate + (o + 2) * row, rows <= TILE ? 4 : 2};
        for (long r = 0; r < rows; r += TILE) {
            long some = rows - r < TILE ? rows - r : TILE;
            float sums[TILE][TILE];
            any_tile(type, some, x + r * row, at, in, next, sums);
            /* gate, gate, up, up of each row */
            __m512 both = _mm512_loadu_ps(sums);
            _mm512_storeu_ps(sums, silu_times(type, both, _mm512_permute_ps(both, 0xee)));
            for (long i = 0; i < some; i++)
                for (long j = 0; j < 2 && o + j < to; j++)
                    put(y, (r + i) * out + o + j, sums[i][j], type);
            next.at = up + (o + 2) * row;
        }
    }
}

void hinlap_gated(int type, const void* x, const void* gate, const void* up, void* y, long rows,
                  long in, long out) {
    long parts = omp_get_max_threads();
#pragma omp parallel for schedule(static, 1)
    for (long part = 0; part < parts; part++) {
        long from = share(out, part, parts), to = share(out, part + 1, parts);
        if (type)
            gated(1, x, gate, up, y, rows, in, out, from, to);
        else
            gated(0, x, gate, up, y, rows, in, out, from, to);
    }
}
