/* Causal attention within sequences that lie one behind the other, and its gradients, for training.

   Words are float32 numbers or pairs of bfloat16 ones: each product takes one word of each of a
   tile's rows and one vector of words of the other side. Numbers along which a product sums must
   share a word, so rows are paired (pair_rows) where it sums over tokens. Weights are kept as such
   pairs: they are what both gradients of keys and values sum over. No sum depends on threads.

   Tokens that all sequences begin with may lie there once, before all others: a sequence by
   themselves, which the others follow. */

#include "tiles.h"

enum { BLOCK = 48 }; /* queries (and keys) of a task */

/* Products of some rows with turned keys, of as many as the tile's last row sees: (BLOCK, row). */
INLINE void with_keys(int type, int vectors, const float* const* rows, const float* keys,
                      long words, float* to, long row) {
    __m512 sums[TILE][VECTORS];
    clear(sums);
    multiply(type, vectors, rows, 1, keys, CHUNK, words, sums);
#pragma GCC unroll 6
    for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(to + i * row + 16 * v, sums[i][v]);
}

/* Queries [start, start + count) of a block, `token` bytes apart, with the keys that they see. */
INLINE void block_with_keys(int type, const char* x, long token, long start, long count,
                            const float* keys, long words, float* to, long row) {
    for (long from = 0; from < start + count; from += CHUNK, keys += CHUNK * words)
        for (long t = 0; t < count; t += TILE) {
            const float* rows[TILE];
            long seen = start + least(t + TILE, count) - from;
            if (seen <= 0) continue;
            find_rows(x + t * token, token, count - t, rows);
            float* at = to + t * row + from;
            switch (least(VECTORS, (seen + 15) / 16)) {
                case 1:
                    with_keys(type, 1, rows, keys, words, at, row);
                    break;
                case 2:
                    with_keys(type, 2, rows, keys, words, at, row);
                    break;
                case 3:
                    with_keys(type, 3, rows, keys, words, at, row);
                    break;
                default:
                    with_keys(type, 4, rows, keys, words, at, row);
            }
        }
}

/* A block's rows of weights, (count, row) numbers, times the paired rows of keys or values that
   they are of: (count, width) numbers, `token` bytes apart. */
INLINE void block_with_values(int type, const char* weights, long row, long start, long count,
                              const float* values, long width, void* to, long token) {
    for (long t = 0; t < count; t += TILE) {
        const float* rows[TILE];
        long some = least(TILE, count - t);
        find_rows(weights + t * row, row, some, rows);
        for (long from = 0; from < width; from += 16 * VECTORS) {
            __m512 sums[TILE][VECTORS];
            clear(sums);
            add_tile(type, rows, 1, values + from, width, width - from,
                     words_of(type, start + t + some), sums);
            put_rows(type, sums, some, (char*)to + t * token, token, from, width);
        }
    }
}

/* n scores to exp(scale * score), the greatest to 1; returns 1 / their sum. */
INLINE float weigh(float* x, long n, float scale) {
    __m512 most = _mm512_set1_ps(-__builtin_inff()), sum = _mm512_setzero_ps();
    __m512 by = _mm512_set1_ps(scale);
    for (long i = 0; i < n; i += 16)
        most =
            _mm512_mask_max_ps(most, first(n - i), most, _mm512_mul_ps(_mm512_loadu_ps(x + i), by));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (long i = 0; i < n; i += 16) {
        __m512 e = exponential(_mm512_fmsub_ps(_mm512_loadu_ps(x + i), by, most));
        sum = _mm512_mask_add_ps(sum, first(n - i), sum, e);
        _mm512_storeu_ps(x + i, e);
    }
    return 1.f / _mm512_reduce_add_ps(sum);
}

/* `count` queries of a sequence from its `start` on, none before `shared`: those tokens are the
   first of all, and even in number. begin: where token 0 of the sequence, of `length`, would lie;
   room: the same where each has a multiple of CHUNK; kept: words of weights before the block. */
typedef struct {
    long begin, length, room, start, kept, shared;
} Block;

/* Numbers of heads: the first one's, and bytes from a token and from a head to the next. */
typedef struct {
    char* at;
    long token, head;
} Heads;

/* followers: sequences that follow shared tokens; their first blocks lie behind all blocks. */
typedef struct {
    long kv_heads, group, width, rooms, kept, longest, followers, threads;
} Sizes;

INLINE long count_of(const Block* b) { return least(BLOCK, b->length - b->start); }
INLINE long row_of(const Block* b) { return up_to(b->start + count_of(b), 16); }
INLINE long kept_of(int type, const Block* b) {
    return words_of(type, up_to(count_of(b), 2)) * row_of(b);
}
INLINE char* rows_of(const Heads* x, long head, const Block* b, long start) {
    return x->at + head * x->head + (b->begin + start) * x->token;
}

/* A whole sequence's rows of a head: turned, and paired from `from` on. */
INLINE void turn_sequence(const Heads* x, long head, const Block* b, long words, float* to) {
    turn_rows(x->at + head * x->head, b->shared, rows_of(x, head, b, 0), x->token, b->length, words,
              to);
}
INLINE void pair_sequence(int type, const Heads* x, long head, const Block* b, long from,
                          long width, float* to) {
    pair_rows(type, x->at + head * x->head + from * x->token, x->token, b->shared - from, width,
              to + words_of(type, from) * width);
    pair_rows(type, rows_of(x, head, b, b->shared), x->token, b->length - b->shared, width,
              to + words_of(type, b->shared) * width);
}

/* One task of the forward: a block's queries of one head. own: room of this thread. */
INLINE void attend(int type, const Heads* q, const Heads* out, const Block* b, long head,
                   const float* keys, const float* values, float* kept, long width, float scale,
                   float* own, long longest) {
    long count = count_of(b), row = row_of(b), words = words_of(type, width);
    float* scores = own;
    char* weights = (char*)(own + BLOCK * longest);
    if (!type && kept) weights = (char*)kept;
    block_with_keys(type, rows_of(q, head, b, b->start), q->token, b->start, count, keys, words,
                    scores, row);
    for (long r = 0; r < count; r += 2) {
        long seen = b->start + r + 1, then = r + 1 < count ? seen + 1 : 0;
        float* at = scores + r * row;
        __m512 share = _mm512_set1_ps(weigh(at, seen, scale)), other = share;
        if (then) other = _mm512_set1_ps(weigh(at + row, then, scale));
        float* pairs = kept ? kept + r / 2 * row : 0;
        for (long i = 0; i < row; i += 16) {
            __m512 x = _mm512_maskz_loadu_ps(first(seen - i), at + i);
            __m512 y = _mm512_maskz_loadu_ps(first(then - i), at + row + i);
            put_two(type, _mm512_mul_ps(x, share), _mm512_mul_ps(y, other),
                    weights + r * row * (type ? 2 : 4), row, i, pairs);
        }
    }
    block_with_values(type, weights, row * (type ? 2 : 4), b->start, count, values, width,
                      rows_of(out, head, b, b->start), out->token);
}

/* One task of the way back: the gradients of a block's scores, kept as the weights are, and of its
   queries. */
INLINE void attend_back(int type, const Heads* grad, const Heads* grad_q, const Block* b, long head,
                        const float* values, const float* keys, const float* kept, float* slopes,
                        long width, float scale, float* own, long longest) {
    long count = count_of(b), row = row_of(b), words = words_of(type, width);
    float* inner = own;
    char* numbers = type ? (char*)(own + BLOCK * longest) : (char*)slopes;
    block_with_keys(type, rows_of(grad, head, b, b->start), grad->token, b->start, count, values,
                    words, inner, row);
    __m512i upper = _mm512_set1_epi32((int)0xffff0000);
    for (long r = 0; r < count; r += 2) {
        long seen[2] = {b->start + r + 1, r + 1 < count ? b->start + r + 2 : 0};
        const float* at = inner + r * row;
        const float* pairs = kept + (type ? r / 2 : r) * row;
        __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, scales[2];
        for (int twice = 0; twice < 2; twice++) {
            for (long i = 0; i < row; i += 16) {
                __m512 weights[2], found[2];
                if (type) {
                    __m512i both = _mm512_loadu_si512(pairs + i);
                    weights[0] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
                    weights[1] = _mm512_castsi512_ps(_mm512_and_si512(both, upper));
                } else {
                    weights[0] = _mm512_loadu_ps(pairs + i);
                    weights[1] = _mm512_loadu_ps(pairs + row + i);
                }
#pragma GCC unroll 2
                for (int j = 0; j < 2; j++) {
                    found[j] = _mm512_maskz_loadu_ps(first(seen[j] - i), at + j * row + i);
                    if (twice)
                        found[j] = _mm512_mul_ps(_mm512_mul_ps(weights[j], scales[j]),
                                                 _mm512_sub_ps(found[j], sums[j]));
                    else
                        sums[j] = _mm512_fmadd_ps(weights[j], found[j], sums[j]);
                }
                if (twice)
                    put_two(type, found[0], found[1], numbers + r * row * (type ? 2 : 4), row, i,
                            slopes + r / 2 * row);
            }
            for (int j = 0; j < 2; j++) {
                scales[j] = _mm512_set1_ps(scale);
                sums[j] = _mm512_set1_ps(_mm512_reduce_add_ps(sums[j]));
            }
        }
    }
    block_with_values(type, numbers, row * (type ? 2 : 4), b->start, count, keys, width,
                      rows_of(grad_q, head, b, b->start), grad_q->token);
}

/* One task more: what all queries after them, those of followers too, give to a block's keys (of
   slopes and queries) or values (of weights and gradients). kept: of the first of the group's
   heads. */
INLINE void gather(int type, const Block* b, const Block* followers, long n, long group,
                   const float* kept, long kept_head, const float* rows, long rows_head, long width,
                   const Heads* to, long kv_head) {
    long count = count_of(b), pace = type ? 2 : 1;
    for (long t = 0; t < count; t += TILE)
        for (long from = 0; from < width; from += 16 * VECTORS) {
            __m512 sums[TILE][VECTORS];
            clear(sums);
            for (long i = 0; i < group * (1 + n); i++) {
                long h = i / (1 + n), own = i % (1 + n) == 0;
                Block of = own ? *b : followers[i % (1 + n) - 1];
                for (; of.start < of.length; of.start += BLOCK) {
                    long row = row_of(&of), skip = own && of.start == b->start ? t / pace : 0;
                    const float* at = kept + h * kept_head + of.kept + skip * row + b->start + t;
                    const float* a[TILE];
                    for (int j = 0; j < TILE; j++) a[j] = at + least(j, count - t - 1);
                    add_tile(
                        type, a, row,
                        rows + h * rows_head + ((of.room + of.start) / pace + skip) * width + from,
                        width, width - from, words_of(type, count_of(&of)) - skip, sums);
                    of.kept += kept_of(type, &of);
                }
            }
            put_rows(type, sums, least(TILE, count - t), rows_of(to, kv_head, b, b->start + t),
                     to->token, from, width);
        }
}

/* Weighed values of q, k, v to out. blocks: all of them, those of a sequence in order by `kept`.
   kept: words of weights for each head, for the way back, or none. space: 2 * kv_heads * rooms *
   words + 2 * threads * BLOCK * longest float32 numbers, longest of all rows. */
void hinlap_causal(int type, const Heads* heads, const Block* blocks, long n, const Sizes* sizes,
                   float scale, float* kept, float* space) {
    const Heads *q = heads, *k = heads + 1, *v = heads + 2, *out = heads + 3;
    Sizes z = *sizes;
    long words = words_of(type, z.width), side = z.rooms * words, all = z.kv_heads * z.group;
    float *keys = space, *values = keys + z.kv_heads * side, *own = values + z.kv_heads * side;
#pragma omp parallel num_threads(z.threads)
    {
#pragma omp for schedule(dynamic)
        for (long i = 0; i < n * z.kv_heads; i++) {
            const Block* b = blocks + i / z.kv_heads;
            long g = i % z.kv_heads, at = g * side + b->room * words;
            if (b->start != b->shared) continue;
            turn_sequence(k, g, b, words, keys + at);
            pair_sequence(type, v, g, b, 0, z.width, values + at);
        }
#pragma omp for schedule(dynamic)
        for (long i = 0; i < n * all; i++) {
            const Block* b = blocks + i / all;
            long h = i % all, at = h / z.group * side + b->room * words;
            float* weights = kept ? kept + h * z.kept + b->kept : 0;
            float* mine = own + omp_get_thread_num() * 2 * BLOCK * z.longest;
            if (type)
                attend(1, q, out, b, h, keys + at, values + at, weights, z.width, scale, mine,
                       z.longest);
            else
                attend(0, q, out, b, h, keys + at, values + at, weights, z.width, scale, mine,
                       z.longest);
        }
    }
}

/* Gradients in q, k and v of hinlap_causal from that of out. space: 2 * (kv_heads + heads) * rooms
 * words + heads * kept + 2 * threads * BLOCK * longest float32 numbers. */
void hinlap_causal_back(int type, const Heads* heads, const Block* blocks, long n,
                        const Sizes* sizes, float scale, const float* kept, float* space) {
    const Heads *q = heads, *k = heads + 1, *v = heads + 2, *grad = heads + 3, *to = heads + 4;
    Sizes z = *sizes;
    long words = words_of(type, z.width), side = z.rooms * words, all = z.kv_heads * z.group;
    float *values = space, *keys = values + z.kv_heads * side, *queries = keys + z.kv_heads * side;
    float *grads = queries + all * side, *slopes = grads + all * side;
    float* own = slopes + all * z.kept;
#pragma omp parallel num_threads(z.threads)
    {
#pragma omp for schedule(dynamic) nowait
        for (long i = 0; i < n * z.kv_heads; i++) {
            const Block* b = blocks + i / z.kv_heads;
            long g = i % z.kv_heads, at = g * side + b->room * words;
            if (b->start != b->shared) continue;
            turn_sequence(v, g, b, words, values + at);
            pair_sequence(type, k, g, b, 0, z.width, keys + at);
        }
#pragma omp for schedule(dynamic)
        for (long i = 0; i < n * all; i++) {
            const Block* b = blocks + i / all;
            long h = i % all, at = h * side + b->room * words;
            if (b->start != b->shared) continue;
            pair_sequence(type, q, h, b, b->shared, z.width, queries + at);
            pair_sequence(type, grad, h, b, b->shared, z.width, grads + at);
        }
#pragma omp for schedule(dynamic)
        for (long i = 0; i < n * all; i++) {
            const Block* b = blocks + i / all;
            long h = i % all, at = h / z.group * side + b->room * words;
            const float* weights = kept + h * z.kept + b->kept;
            float *into = slopes + h * z.kept + b->kept, *mine = own;
            mine += omp_get_thread_num() * 2 * BLOCK * z.longest;
            if (type)
                attend_back(1, grad, to, b, h, values + at, keys + at, weights, into, z.width,
                            scale, mine, z.longest);
            else
                attend_back(0, grad, to, b, h, values + at, keys + at, weights, into, z.width,
                            scale, mine, z.longest);
        }
#pragma omp for schedule(dynamic)
        for (long i = 0; i < n * 2 * z.kv_heads; i++) {
            const Block* b = blocks + n - 1 - i / (2 * z.kv_heads); /* early keys have most */
            long g = i / 2 % z.kv_heads, h = g * z.group;
            const float* weights = (i % 2 ? kept : slopes) + h * z.kept;
            const float* rows = (i % 2 ? grads : queries) + h * side;
            const Heads* into = to + 1 + i % 2;
            long more = b->shared ? 0 : z.followers;
            if (type)
                gather(1, b, blocks + n, more, z.group, weights, z.kept, rows, side, z.width, into,
                       g);
            else
                gather(0, b, blocks + n, more, z.group, weights, z.kept, rows, side, z.width, into,
                       g);
        }
    }
}
