/* Products of some more rows, 16 side by side in a vector: each number of a weight, read once, is
   multiplied by all of them. Words are float32 numbers or pairs of bfloat16 ones.

   Sums are taken in order, up to DEPTH words at once. */

#include "kernels.h"
#include "vectors.h"

enum { ROWS = 16, OUTS = 16, DEPTH = 512 };

/* sum + x * w, of a word of each of 16 rows and one of a weight */
INLINE __m512 added(int type, __m512 sum, __m512 x, const float* w) {
    /* by hand, since compilers load the weight first, which takes a third longer */
#ifdef __AVX512BF16__
    if (type) {
        __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(x), "m"(*w));
        return sum;
    }
#endif
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(x), "m"(*w));
    return sum;
}

/* Weights' rows of so many words: those of a tile are OUTS of a, or half as many of a and of b;
   what is made of them, y (rows, out). */
typedef struct {
    const float *a, *b;
    const void* bias;
    void* y;
    long out, words;
} Weights;

INLINE long outs_of(const Weights* w) { return w->b ? OUTS / 2 : OUTS; }

INLINE void find_rows(const Weights* w, long tile, const float** at) {
    long outs = outs_of(w);
    for (long i = 0; i < OUTS; i++) {
        long o = tile * outs + i % outs;
        at[i] = (i < outs ? w->a : w->b) + (o < w->out ? o : w->out - 1) * w->words;
    }
}

/* x (rows, words) as vectors of 16 rows each, zeros for what is missing: (groups, words, 16). */
static void turn_rows(const float* x, long rows, long words, float* to) {
    for (long r = 0; r < rows; r += ROWS)
        for (long k = 0; k < words; k += 16, to += 16 * ROWS) {
            __m512i from[ROWS], turned[16];
            for (int i = 0; i < ROWS; i++)
                from[i] = r + i < rows
                              ? _mm512_maskz_loadu_epi32(first(words - k), x + (r + i) * words + k)
                              : _mm512_setzero_si512();
            turn_words(from, turned);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * ROWS, turned[i]);
        }
}

/* One tile's sums of 16 rows to y, which rows there are of them. */
INLINE void finish(int type, const Weights* w, long tile, __m512* sums, void* y, long rows) {
    long outs = outs_of(w), from = tile * outs;
    long n = w->out - from < outs ? w->out - from : outs;
    __m512i words[OUTS], turned[ROWS];
#pragma GCC unroll 16
    for (int o = 0; o < OUTS; o++) {
        if (w->b && o < OUTS / 2) sums[o] = silu_times(type, sums[o], sums[OUTS / 2 + o]);
        if (w->bias && o < n)
            sums[o] = _mm512_add_ps(sums[o], _mm512_set1_ps(number(w->bias, from + o, type)));
        words[o] = _mm512_castps_si512(sums[o]);
    }
    turn_words(words, turned);
    for (long r = 0; r < (rows < ROWS ? rows : ROWS); r++)
        put_some(y, r * w->out + from, n, _mm512_castsi512_ps(turned[r]), type);
}

/* Tiles [from, to). x: as turn_rows leaves it. Words of the weights are copied 16 of each row at a
   time, while the ones before are multiplied: rows that lie a power of two apart would displace
   each other from the cache. */
INLINE void multiply(int type, const float* x, const Weights* w, long rows, long from, long to) {
    float copies[2][OUTS][16] __attribute__((aligned(64)));
    const float *at[OUTS], *then[OUTS];
    long size = type ? 2 : 4, groups = (rows + ROWS - 1) / ROWS, words = (w->words + 15) / 16 * 16;
    long depth = (words + DEPTH - 1) / DEPTH; /* pieces of about one size, whole vectors */
    depth = (words / 16 + depth - 1) / depth * 16;
    int side = 0;
    find_rows(w, from, then);
    for (int i = 0; i < OUTS; i++)
        _mm512_store_ps(copies[0][i], _mm512_maskz_loadu_ps(first(w->words), then[i]));
    for (long tile = from; tile < to; tile++) {
        __m512 total[4][OUTS];
        memcpy(at, then, sizeof at);
        find_rows(w, tile + 1, then);
        for (long piece = 0; piece < words; piece += depth) {
            long end = piece + depth < words ? piece + depth : words;
            for (long g = 0; g < groups; g++) {
                const float* row = x + (g * words + piece) * ROWS;
                /* which words follow these, and which follow the piece */
                const float* const* next = g + 1 < groups || end < words ? at : then;
                const float* const* later = end < words ? at : then;
                long next_piece = g + 1 < groups ? piece : end < words ? end : 0;
                long ahead = end < words ? end : 0;
                __m512 sums[OUTS];
#pragma GCC unroll 16
                for (int o = 0; o < OUTS; o++) sums[o] = _mm512_setzero_ps();
                for (long k = piece; k < end; k += 16) {
                    const float (*weights)[16] = copies[side];
                    float (*copy)[16] = copies[side ^= 1];
                    const float* const* source = k + 16 < end ? at : next;
                    long k_next = k + 16 < end ? k + 16 : next_piece;
                    __mmask16 mask = first(w->words - k_next);
#pragma GCC unroll 4
                    for (int i = 0; i < 16; i++, row += ROWS) {
                        __m512 word = held(_mm512_loadu_ps(row));
#pragma GCC unroll 16
                        for (int o = 0; o < OUTS; o++)
                            sums[o] = added(type, sums[o], word, weights[o] + i);
                        _mm512_store_ps(copy[i], _mm512_maskz_loadu_ps(mask, source[i] + k_next));
                        if (!g) _mm_prefetch(later[i] + ahead + k - piece, _MM_HINT_T1);
                    }
                }
#pragma GCC unroll 16
                for (int o = 0; o < OUTS; o++)
                    total[g][o] = piece ? _mm512_add_ps(total[g][o], sums[o]) : sums[o];
            }
        }
        for (long g = 0; g < groups; g++)
            finish(type, w, tile, total[g], (char*)w->y + g * ROWS * w->out * size,
                   rows - g * ROWS);
    }
}

/* Of the same x (rows, words). space: for each of so many threads the rows in whole vectors. */
INLINE void multiply_all(int type, const void* x, const Weights* weights, long n, long rows,
                         long threads, float* space) {
    long words = weights->words, size = (rows + ROWS - 1) / ROWS * ROWS * ((words + 15) / 16 * 16);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (long part = 0; part < threads; part++) {
        turn_rows(x, rows, words, space + part * size);
        for (const Weights* w = weights; w < weights + n; w++) {
            long tiles = (w->out + outs_of(w) - 1) / outs_of(w);
            long from = tiles * part / threads, to = tiles * (part + 1) / threads;
            if (from < to) multiply(type, space + part * size, w, rows, from, to);
        }
    }
}

static void multiply_any(int type, const void* x, const Weights* weights, long n, long rows,
                         long threads, float* space) {
    if (type)
        multiply_all(1, x, weights, n, rows, threads, space);
    else
        multiply_all(0, x, weights, n, rows, threads, space);
}

/* Products of the same contiguous x (rows, in), up to 64 rows and eight layers; in: even in
 * bfloat16. */
void hinlap_wide_linear(int type, const void* x, const Layer* layers, long n, long rows, long in,
                        long threads, void* space) {
    Weights weights[8];
    for (long i = 0; i < n; i++)
        weights[i] = (Weights){layers[i].w,       0, layers[i].bias, layers[i].y, layers[i].out,
                               type ? in / 2 : in};
    multiply_any(type, x, weights, n, rows, threads, space);
}

/* y (rows, out) = silu(x G') * (x U') likewise. */
void hinlap_wide_gated(int type, const void* x, const void* gate, const void* up, void* y,
                       long rows, long in, long out, long threads, void* space) {
    Weights weights = {gate, up, 0, y, out, type ? in / 2 : in};
    multiply_any(type, x, &weights, 1, rows, threads, space);
}
