/* Products of a few rows at a time, for training: a tile of sums takes one word of each of its rows
   and some vectors of words of the other side.

   Words are float32 numbers or pairs of bfloat16 ones, of neighbours along what is summed. */

#include "vectors.h"

/* rows of a tile, vectors of 16 words and their numbers, steps that words far apart are asked for
   before */
enum { TILE = 6, VECTORS = 4, CHUNK = 16 * VECTORS, AHEAD = 16 };

INLINE long least(long a, long b) { return a < b ? a : b; }
INLINE long up_to(long n, long whole) { return (n + whole - 1) / whole * whole; }
INLINE long words_of(int type, long numbers) { return type ? (numbers + 1) / 2 : numbers; }

INLINE __m512 added(int type, __m512 sum, __m512 a, __m512 b) {
#ifdef __AVX512BF16__
    if (type) return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#endif
    return _mm512_fmadd_ps(a, b, sum);
}

/* sums[i] += the product of `steps` words of a's row i, a_step apart, with rows of b. */
INLINE void multiply(int type, int vectors, const float* const* a, long a_step, const float* b,
                     long b_step, long steps, __m512 sums[TILE][VECTORS]) {
    const float *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3], *a4 = a[4], *a5 = a[5];
    for (long s = 0; s < steps; s++, b += b_step) {
        if (a_step != 1) /* each step's words are elsewhere */
            _mm_prefetch(a0 + (s + AHEAD) * a_step, _MM_HINT_T0),
                _mm_prefetch(a5 + (s + AHEAD) * a_step, _MM_HINT_T0);
        __m512 side[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) side[v] = held(_mm512_loadu_ps(b + 16 * v));
        const float* rows[TILE] = {a0, a1, a2, a3, a4, a5};
#pragma GCC unroll 6
        for (int i = 0; i < TILE; i++) {
            __m512 word = held(_mm512_set1_ps(rows[i][s * a_step]));
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sums[i][v] = added(type, sums[i][v], word, side[v]);
        }
    }
}

INLINE void clear(__m512 sums[TILE][VECTORS]) {
#pragma GCC unroll 6
    for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sums[i][v] = _mm512_setzero_ps();
}

/* Rows `row` bytes apart, the last again for those that are missing. */
INLINE void find_rows(const void* at, long row, long count, const float** rows) {
    for (int i = 0; i < TILE; i++)
        rows[i] = (const float*)((const char*)at + least(i, count - 1) * row);
}

/* Puts `count` rows of a tile, VECTORS * 16 numbers from `from` on or fewer, `row` bytes apart. */
INLINE void put_rows(int type, __m512 sums[TILE][VECTORS], long count, void* to, long row,
                     long from, long width) {
#pragma GCC unroll 6
    for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            if (i < count && from + 16 * v < width)
                put_some((char*)to + i * row, from + 16 * v, 16, sums[i][v], type);
}

/* sums += the product of words of rows, a_step apart, with as many numbers of b's rows as a tile
   takes, or `width`. */
INLINE void add_tile(int type, const float* const* a, long a_step, const float* b, long b_step,
                     long width, long steps, __m512 sums[TILE][VECTORS]) {
    switch (least(VECTORS, width / 16)) {
        case 1:
            multiply(type, 1, a, a_step, b, b_step, steps, sums);
            break;
        case 2:
            multiply(type, 2, a, a_step, b, b_step, steps, sums);
            break;
        case 3:
            multiply(type, 3, a, a_step, b, b_step, steps, sums);
            break;
        default:
            multiply(type, 4, a, a_step, b, b_step, steps, sums);
    }
}

enum { LAYERS = 8 }; /* with the same input, at most */

/* What thin products (lora.c) add to columns up to each layer's end: `depth` words of each row of
   `numbers`, `row` bytes apart, those of the layers side by side, times paired rows of `words`, as
   wide as all columns. */
typedef struct {
    long layers, ends[LAYERS], depth, row;
    const char* numbers;
    const float* words;
} Thin;

/* Adds them to a tile's sums, in columns [column, column + width) of a layer. */
INLINE void add_thin(int type, const Thin* thin, long row, long count, long layer, long column,
                     long width, __m512 sums[TILE][VECTORS]) {
    const float* rows[TILE];
    find_rows(thin->numbers + row * thin->row + layer * thin->depth * 4, thin->row, count, rows);
    add_tile(type, rows, 1, thin->words + column, thin->ends[thin->layers - 1], width, thin->depth,
             sums);
}

/* The columns of a task, all of one layer. */
typedef struct {
    long layer, from, width;
} Columns;

INLINE long begin_of(const long* ends, long layer) { return layer ? ends[layer - 1] : 0; }
INLINE long tasks_of(const long* ends, long layers) {
    long tasks = 0;
    for (long l = 0; l < layers; l++) tasks += (ends[l] - begin_of(ends, l) + CHUNK - 1) / CHUNK;
    return tasks;
}
INLINE Columns columns_of(const long* ends, long task) {
    for (long layer = 0;; layer++) {
        long from = begin_of(ends, layer) + task * CHUNK;
        if (from < ends[layer]) return (Columns){layer, from, least(CHUNK, ends[layer] - from)};
        task -= (ends[layer] - begin_of(ends, layer) + CHUNK - 1) / CHUNK;
    }
}

/* As halves, of which the smallest (denormal) numbers become zero. */
INLINE __m512i nearest(__m512 x) {
#ifdef __AVX512BF16__
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); /* a fifth of the time */
#else
    return halves(x);
#endif
}

/* 16 numbers of two rows from i on: as numbers, rows of `row`, and in bfloat16 as pairs too, if
   they are asked for; of float32 ones pairs are the numbers. */
INLINE void put_two(int type, __m512 a, __m512 b, void* numbers, long row, long i, float* pairs) {
    if (!type) {
        _mm512_storeu_ps((float*)numbers + i, a);
        _mm512_storeu_ps((float*)numbers + row + i, b);
        return;
    }
    __m512i one = nearest(a), other = nearest(b);
    _mm256_storeu_si256((__m256i*)((uint16_t*)numbers + i), _mm512_cvtepi32_epi16(one));
    _mm256_storeu_si256((__m256i*)((uint16_t*)numbers + row + i), _mm512_cvtepi32_epi16(other));
    if (pairs) _mm512_storeu_si512(pairs + i, _mm512_or_si512(one, _mm512_slli_epi32(other, 16)));
}

/* n rows of `width` numbers, `row` bytes apart, as words of which each has a number of one row, or
   of two that follow each other: (words_of(n), width). */
static inline void pair_rows(int type, const char* x, long row, long n, long width, float* to) {
    for (long r = 0; r < n; r += type ? 2 : 1, x += (type ? 2 : 1) * row, to += width)
        for (long i = 0; i < width; i += 16) {
            __m512i first = _mm512_castps_si512(some_numbers(x, i, 16, type));
            if (type) {
                __m512 other = r + 1 < n ? some_numbers(x + row, i, 16, 1) : _mm512_setzero_ps();
                first = _mm512_or_si512(_mm512_srli_epi32(first, 16), _mm512_castps_si512(other));
            }
            _mm512_storeu_si512(to + i, first);
        }
}

/* n rows of `words` words, turned in pieces of CHUNK rows: (pieces, words, CHUNK). The first
   `shared` rows are those of `early`. */
static inline void turn_rows(const char* early, long shared, const char* x, long row, long n,
                             long words, float* to) {
    for (long r = 0; r < up_to(n, CHUNK); r += 16)
        for (long w = 0; w < words; w += 16) {
            __m512i from[16], turned[16];
            __mmask16 mask = (__mmask16)((1u << least(16, words - w)) - 1);
            for (int i = 0; i < 16; i++) {
                const char* at = (r + i < shared ? early : x) + (r + i) * row + 4 * w;
                from[i] = r + i < n ? _mm512_maskz_loadu_epi32(mask, at) : _mm512_setzero_si512();
            }
            turn_words(from, turned);
            float* at = to + r / CHUNK * CHUNK * words + w * CHUNK + r % CHUNK;
            for (int i = 0; i < least(16, words - w); i++)
                _mm512_storeu_si512(at + i * CHUNK, turned[i]);
        }
}
