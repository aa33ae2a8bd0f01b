/* The thin products of LoRA (Hu et al. 2021): what some layers' low-rank pairs A (rank, in) and
   B (out, rank) add to the product of the same x (rows, in) with their frozen weights, and the way
   back. Layers' outputs lie side by side.

   low, x A' of all layers, is kept as words: float32 numbers (rows, pitch), or pairs of bfloat16
   ones of two rows (rows / 2, pitch), each layer's from a multiple of EIGHT on, zeros where there
   is nothing. What it adds is that of `Thin`. No sum depends on threads. */

#include "tiles.h"

/* ranks at once; vectors of columns of a task that sums over all rows */
enum { EIGHT = 8, SIDE = 3 };

/* Outputs of each layer end at `ends`; downs and ups: its A and B as they are learnt, float32. */
typedef struct {
    long rows, in, out, rank, layers, ends[LAYERS];
    const float *downs[LAYERS], *ups[LAYERS];
} Lora;

INLINE long room_of(const Lora* z) { return up_to(z->rank, EIGHT); }
INLINE long pitch_of(const Lora* z) { return z->layers * room_of(z); }

/* The pairs in the precision of the products, with zeros up to each layer's room: A of one layer
   after the other, (layers * room, in), and B' of all side by side times scale, (room, out), each
   as numbers and as words of two rows. Of float32 these are the same. */
typedef struct {
    char *downs, *ups;
    float *down_words, *up_words;
} Pairs;

INLINE Pairs pairs_in(int type, const Lora* z, float* space) {
    long downs = pitch_of(z) * z->in, ups = room_of(z) * z->out;
    float* then = space + downs;
    if (!type) return (Pairs){(char*)space, (char*)then, space, then};
    return (Pairs){(char*)space, (char*)then, space + downs / 2, then + ups / 2};
}

/* Columns [o, o + 16) of one layer's A, or of its B'. */
INLINE void prepare(int type, const Lora* z, const Pairs* p, long layer, int up, long o,
                    float scale) {
    long row = up ? z->out : z->in, begin = up ? begin_of(z->ends, layer) : 0;
    char* numbers = up ? p->ups : p->downs;
    float* words = up ? p->up_words : p->down_words;
    if (!up) {
        numbers += layer * room_of(z) * row * (type ? 2 : 4);
        words += words_of(type, layer * room_of(z)) * row;
    }
    __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    places = _mm512_mullo_epi32(places, _mm512_set1_epi32((int)z->rank));
    for (long r = 0; r < room_of(z); r += 2) {
        __m512 two[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (long i = 0; i < least(2, z->rank - r); i++)
            two[i] = up ? _mm512_mul_ps(
                              _mm512_set1_ps(scale),
                              _mm512_i32gather_ps(places, z->ups[layer] + o * z->rank + r + i, 4))
                        : _mm512_loadu_ps(z->downs[layer] + (r + i) * row + o);
        put_two(type, two[0], two[1], numbers + r * row * (type ? 2 : 4), row, begin + o,
                words + r / 2 * row);
    }
}

/* Sums of products of two rows of `words` words with eight others: (2, EIGHT). */
INLINE __m512 two_by_eight(int type, const float* a, const float* b, const float* const* others,
                           long words) {
    __m512 sums[2 * EIGHT];
#pragma GCC unroll 16
    for (int i = 0; i < 2 * EIGHT; i++) sums[i] = _mm512_setzero_ps();
    for (long k = 0; k < words; k += 16) {
        __mmask16 mask = first(words - k);
        __m512 one = held(_mm512_maskz_loadu_ps(mask, a + k));
        __m512 two = held(_mm512_maskz_loadu_ps(mask, b + k));
#pragma GCC unroll 8
        for (int i = 0; i < EIGHT; i++) {
            __m512 other = held(_mm512_maskz_loadu_ps(mask, others[i] + k));
            sums[i] = added(type, sums[i], one, other);
            sums[EIGHT + i] = added(type, sums[EIGHT + i], two, other);
        }
    }
    return sums_of(sums);
}

/* low of `count` rows of one layer, x's rows `row` bytes apart, in bfloat16 also as numbers, pitch
   of a row. others: (rank, width) numbers, rows `other` bytes apart. */
INLINE void lower(int type, const char* x, long row, long count, const char* others, long other,
                  long width, long rank, float* low, uint16_t* numbers, long pitch) {
    for (long t = 0; t < rank; t += EIGHT) {
        const float* some[EIGHT];
        for (int i = 0; i < EIGHT; i++)
            some[i] = (const float*)(others + least(t + i, rank - 1) * other);
        for (long r = 0; r < count; r += 2) {
            const char *one = x + r * row, *two = r + 1 < count ? one + row : one;
            __m512 sums = two_by_eight(type, (const float*)one, (const float*)two, some,
                                       words_of(type, width));
            __mmask16 there = first(rank - t) & 0xff;
            there |= r + 1 < count ? there << EIGHT : 0;
            sums = _mm512_maskz_mov_ps(there, sums);
            if (!type) {
                _mm256_storeu_ps(low + r * pitch + t, _mm512_castps512_ps256(sums));
                _mm256_storeu_ps(low + (r + 1) * pitch + t, _mm512_extractf32x8_ps(sums, 1));
                continue;
            }
            __m512i words = nearest(sums);
            __m256i above = _mm512_castsi512_si256(words);
            __m256i below = _mm512_extracti64x4_epi64(words, 1);
            __m256i both = _mm256_or_si256(above, _mm256_slli_epi32(below, 16));
            _mm256_storeu_si256((__m256i*)(low + r / 2 * pitch + t), both);
            uint16_t* at = numbers + r * pitch + t;
            _mm_storeu_si128((__m128i*)at, _mm256_cvtepi32_epi16(above));
            _mm_storeu_si128((__m128i*)(at + pitch), _mm256_cvtepi32_epi16(below));
        }
    }
}

/* The rows of a tile of x, or back, of the gradient of all outputs. */
INLINE void lower_tile(int type, const Lora* z, const Pairs* p, long tile, const void* x, int back,
                       float* low, uint16_t* numbers) {
    long r = tile * TILE, count = least(TILE, z->rows - r), size = type ? 2 : 4;
    long row = back ? z->out : z->in, pitch = pitch_of(z);
    for (long l = 0; l < z->layers; l++) {
        long begin = back ? begin_of(z->ends, l) : 0, room = l * room_of(z);
        const char* others = back ? p->ups + begin * size : p->downs + room * z->in * size;
        lower(type, (const char*)x + (r * row + begin) * size, row * size, count, others,
              row * size, back ? z->ends[l] - begin : z->in, z->rank,
              low + words_of(type, r) * pitch + room, numbers + r * pitch + room, pitch);
    }
}

/* Sums over all rows of eight words of low times columns of x, times scale: (EIGHT, 16 * SIDE). */
INLINE void over_rows(int type, int vectors, const float* low, long pitch, const char* x, long row,
                      long rows, float scale, float found[EIGHT][16 * SIDE]) {
    __m512 sums[EIGHT][SIDE];
#pragma GCC unroll 8
    for (int i = 0; i < EIGHT; i++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) sums[i][v] = _mm512_setzero_ps();
    for (long r = 0; r < rows; r += type ? 2 : 1, low += pitch, x += (type ? 2 : 1) * row) {
        __m512 side[SIDE];
        for (int i = 0; i < 2; i++) {
            _mm_prefetch(x + (AHEAD + i * type) * row + 64 * i, _MM_HINT_T0);
            _mm_prefetch(x + (AHEAD + i * type) * row + 64 * (i + !type), _MM_HINT_T0);
        }
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            side[v] = some_numbers(x, 16 * v, 16, type);
            if (type) {
                __m512i one = _mm512_srli_epi32(_mm512_castps_si512(side[v]), 16);
                __m512 two =
                    r + 1 < rows ? some_numbers(x + row, 16 * v, 16, type) : _mm512_setzero_ps();
                side[v] = _mm512_castsi512_ps(_mm512_or_si512(one, _mm512_castps_si512(two)));
            }
            side[v] = held(side[v]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < EIGHT; i++) {
            __m512 word = held(_mm512_set1_ps(low[i]));
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) sums[i][v] = added(type, sums[i][v], word, side[v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < EIGHT; i++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(found[i] + 16 * v, _mm512_mul_ps(sums[i][v], _mm512_set1_ps(scale)));
}

/* One layer's gradient from low and columns [from, to) of x, (rank, row) or, turned, (row, rank),
   times scale. */
INLINE void gradient(int type, const float* low, long pitch, const void* x, long row, long rows,
                     long from, long to, long rank, float scale, int turned, float* found) {
    long vectors = least(SIDE, (to - from) / 16), bytes = row * (type ? 2 : 4);
    const char* at = (const char*)x + from * (type ? 2 : 4);
    for (long t = 0; t < rank; t += EIGHT) {
        float some[EIGHT][16 * SIDE];
        switch (vectors) {
            case 1:
                over_rows(type, 1, low + t, pitch, at, bytes, rows, scale, some);
                break;
            case 2:
                over_rows(type, 2, low + t, pitch, at, bytes, rows, scale, some);
                break;
            default:
                over_rows(type, 3, low + t, pitch, at, bytes, rows, scale, some);
        }
        for (long i = 0; i < least(EIGHT, rank - t); i++)
            for (long c = 0; c < 16 * vectors; c++)
                found[turned ? (from + c) * rank + t + i : (t + i) * row + from + c] = some[i][c];
    }
}

/* What is added to x's product by `Thin`: numbers low (even rows, pitch) of x, and B' as words.
   space: room * (layers * in + out) float32 numbers, for the way back too. numbers: of bfloat16 low
   as such, (even rows, pitch). */
void hinlap_lora(int type, const void* x, float* low, void* numbers, float* space, float scale,
                 const Lora* sizes, Thin* thin) {
    Lora z = *sizes;
    Pairs p = pairs_in(type, &z, space);
    *thin = (Thin){.layers = z.layers,
                   .depth = words_of(type, room_of(&z)),
                   .row = pitch_of(&z) * (type ? 2 : 4),
                   .numbers = type ? numbers : low,
                   .words = p.up_words};
    memcpy(thin->ends, z.ends, sizeof z.ends);
#pragma omp parallel
    {
        for (long l = 0; l < z.layers; l++) {
            long columns = z.ends[l] - begin_of(z.ends, l);
#pragma omp for schedule(static) nowait
            for (long o = 0; o < z.in + columns; o += 16)
                if (type)
                    prepare(1, &z, &p, l, o >= z.in, o >= z.in ? o - z.in : o, scale);
                else
                    prepare(0, &z, &p, l, o >= z.in, o >= z.in ? o - z.in : o, scale);
        }
#pragma omp barrier
#pragma omp for schedule(static)
        for (long tile = 0; tile < (z.rows + TILE - 1) / TILE; tile++)
            if (type)
                lower_tile(1, &z, &p, tile, x, 0, low, numbers);
            else
                lower_tile(0, &z, &p, tile, x, 0, low, numbers);
    }
}

/* One task of the gradients of the pairs: SIDE vectors of columns, of x or of a layer's outputs. */
INLINE void pair_gradient(int type, const Lora* z, long task, const void* grad, const void* x,
                          const float* low, const float* grad_low, float scale, float* grad_downs,
                          float* grad_ups) {
    long wide = 16 * SIDE, pitch = pitch_of(z), of_x = (z->in + wide - 1) / wide;
    if (task < of_x) {
        for (long l = 0; l < z->layers; l++)
            gradient(type, grad_low + l * room_of(z), pitch, x, z->in, z->rows, task * wide, z->in,
                     z->rank, 1.f, 0, grad_downs + l * z->rank * z->in);
        return;
    }
    task -= of_x;
    for (long l = 0; l < z->layers; l++) {
        long begin = begin_of(z->ends, l), tasks = (z->ends[l] - begin + wide - 1) / wide;
        if (task < tasks) {
            gradient(type, low + l * room_of(z), pitch, grad, z->out, z->rows, begin + task * wide,
                     z->ends[l], z->rank, scale, 1, grad_ups);
            return;
        }
        task -= tasks;
    }
}

/* Gradients of A (layers * rank, in) and of B (out, rank), and what is added to the gradient of x
   by `Thin`. low, space: as hinlap_lora leaves them; grad_low, numbers: room as of low. */
void hinlap_lora_back(int type, const void* grad, const void* x, const float* low, float* space,
                      float* grad_low, void* numbers, float scale, float* grad_downs,
                      float* grad_ups, const Lora* sizes, Thin* thin) {
    Lora z = *sizes;
    Pairs p = pairs_in(type, &z, space);
    long tasks = z.in / (16 * SIDE) + z.out / (16 * SIDE) + 1 + z.layers;
    *thin = (Thin){.layers = 1,
                   .ends = {z.in},
                   .depth = words_of(type, pitch_of(&z)),
                   .row = pitch_of(&z) * (type ? 2 : 4),
                   .numbers = type ? numbers : grad_low,
                   .words = p.down_words};
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (long tile = 0; tile < (z.rows + TILE - 1) / TILE; tile++)
            if (type)
                lower_tile(1, &z, &p, tile, grad, 1, grad_low, numbers);
            else
                lower_tile(0, &z, &p, tile, grad, 1, grad_low, numbers);
#pragma omp for schedule(dynamic)
        for (long task = 0; task < tasks; task++)
            if (type)
                pair_gradient(1, &z, task, grad, x, low, grad_low, scale, grad_downs, grad_ups);
            else
                pair_gradient(0, &z, task, grad, x, low, grad_low, scale, grad_downs, grad_ups);
    }
}

/* Rows of a tile, columns of a task. */
INLINE void spread(int type, const Thin* thin, long r, long count, Columns columns, char* y) {
    long row = thin->ends[thin->layers - 1] * (type ? 2 : 4), to = columns.from + columns.width;
    __m512 sums[TILE][VECTORS];
    y += r * row;
#pragma GCC unroll 6
    for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            sums[i][v] = some_numbers(y + (i < count ? i : 0) * row, columns.from + 16 * v,
                                      columns.width - 16 * v, type);
    add_thin(type, thin, r, count, columns.layer, columns.from, columns.width, sums);
    put_rows(type, sums, count, y, row, columns.from, to);
}

/* Adds thin products to y (rows, all columns), where its product was another's. */
void hinlap_spread(int type, const Thin* thin, long rows, void* y) {
    long tasks = tasks_of(thin->ends, thin->layers);
#pragma omp parallel for schedule(static)
    for (long tile = 0; tile < (rows + TILE - 1) / TILE; tile++)
        for (long task = 0; task < tasks; task++) {
            Columns columns = columns_of(thin->ends, task);
            long r = tile * TILE, count = least(TILE, rows - r);
            if (type)
                spread(1, thin, r, count, columns, y);
            else
                spread(0, thin, r, count, columns, y);
        }
}
