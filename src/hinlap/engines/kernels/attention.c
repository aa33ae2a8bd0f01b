/* Attention of one forward's tokens over any parts that they look at, in one pass, by the running
   maximum and sum of FlashAttention (Dao et al. 2022). */

#include "kernels.h"
#include "vectors.h"

/* keys at once, queries of a thread at once, numbers of a head at most, queries whose keys are not
   turned */
enum { CHUNK = 64, QUERIES = 64, WIDEST = 256, FEW = 4 };

/* Puts x (tokens, heads, width), of these strides, into blocks (heads, capacity, width), each token
   at its slot of all blocks' tokens for its first head. */
void hinlap_store(int type, const char* x, long token, long head, long tokens, long heads,
                  long width, const long* slots, long capacity, char* blocks) {
    long size = type ? 2 : 4;
    for (long t = 0; t < tokens; t++)
        for (long h = 0; h < heads; h++)
            memcpy(blocks + (slots[t] + h * capacity) * width * size,
                   x + (t * token + h * head) * size, (size_t)(width * size));
}

/* Some queries of one KV head: their scaled numbers, what they have weighed so far, the most of
   their scores and the sum of weights; weights: of the keys at hand, shrink: of what was there
   before. */
typedef struct {
    float q[QUERIES * WIDEST], acc[QUERIES * WIDEST], weights[QUERIES][CHUNK];
    float most[QUERIES], total[QUERIES], shrink[QUERIES];
} State;

/* Up to CHUNK rows of `bytes` bytes that are wanted soon: asked for a few at each of so many steps
   while others are multiplied, since all at once would be waited for. */
typedef struct {
    const char* at;
    long row, n, bytes, asked, due;
} Ahead;

INLINE Ahead ahead(const char* at, long row, long n, long bytes) {
    return (Ahead){at, row, n < CHUNK ? n : CHUNK, bytes, 0, 0};
}

INLINE void ask(Ahead* next, long steps) {
    for (next->due += next->n; next->due >= steps; next->due -= steps, next->asked++)
        for (long i = 0; i < next->bytes; i += 64)
            _mm_prefetch(next->at + next->asked * next->row + i, _MM_HINT_T1);
}

/* Scores of CHUNK keys, laid out (width, CHUNK), for some queries. */
INLINE void score(int queries, State* s, int from, const float* keys, long width, Ahead* next) {
    __m512 dots[4][CHUNK / 16];
#pragma GCC unroll 4
    for (int c = 0; c < queries; c++)
#pragma GCC unroll 4
        for (int j = 0; j < CHUNK / 16; j++) dots[c][j] = _mm512_setzero_ps();
    const float* q = s->q + from * width;
    for (long d = 0; d < width; d++) {
        if (next) ask(next, width);
        __m512 key[CHUNK / 16];
#pragma GCC unroll 4
        for (int j = 0; j < CHUNK / 16; j++)
            key[j] = held(_mm512_loadu_ps(keys + d * CHUNK + 16 * j));
#pragma GCC unroll 4
        for (int c = 0; c < queries; c++) {
            __m512 number = _mm512_set1_ps(q[c * width + d]);
#pragma GCC unroll 4
            for (int j = 0; j < CHUNK / 16; j++)
                dots[c][j] = _mm512_fmadd_ps(number, key[j], dots[c][j]);
        }
    }
#pragma GCC unroll 4
    for (int c = 0; c < queries; c++)
#pragma GCC unroll 4
        for (int j = 0; j < CHUNK / 16; j++)
            _mm512_storeu_ps(s->weights[from + c] + 16 * j, dots[c][j]);
}

/* The same for up to FEW queries and n keys as they lie, (n, width): no turning for so few. */
INLINE void score_few(State* s, int from, int count, const float* keys, long row, long n,
                      long width, Ahead* next) {
    long steps = (n + 15) / 16 * count * width / 16;
    float padded[16 * WIDEST];
    for (long k = 0; k < n; k += 16) {
        const float* at = keys + k * row;
        if (row != width || k + 16 > n) {
            for (long i = 0; i < 16; i++)
                if (k + i < n)
                    memcpy(padded + i * width, at + i * row, sizeof(float) * width);
                else
                    memset(padded + i * width, 0, sizeof(float) * width);
            at = padded;
        }
        for (int c = from; c < from + count; c++) {
            __m512 dots[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) dots[i] = _mm512_setzero_ps();
            for (long d = 0; d < width; d += 16) {
                __m512 q = _mm512_loadu_ps(s->q + c * width + d);
                ask(next, steps);
#pragma GCC unroll 16
                for (int i = 0; i < 16; i++)
                    dots[i] = _mm512_fmadd_ps(q, _mm512_loadu_ps(at + i * width + d), dots[i]);
            }
            _mm512_storeu_ps(s->weights[c] + k, sums_of(dots));
        }
    }
}

/* Adds n values, weighed, for some queries; `vectors` times 16 numbers at once. */
INLINE void weigh(int queries, int vectors, State* s, int from, const float* values, long row,
                  long n, long width, Ahead* next) {
    for (long d = 0; d < width; d += 16 * vectors) {
        float* at = s->acc + from * width + d;
        __m512 acc[4][4];
#pragma GCC unroll 4
        for (int c = 0; c < queries; c++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                acc[c][v] = _mm512_mul_ps(_mm512_set1_ps(s->shrink[from + c]),
                                          _mm512_loadu_ps(at + c * width + 16 * v));
        for (long k = 0; k < n; k++) {
            if (next && !d) ask(next, n);
            __m512 value[4];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                value[v] = held(_mm512_loadu_ps(values + k * row + d + 16 * v));
#pragma GCC unroll 4
            for (int c = 0; c < queries; c++) {
                __m512 weight = _mm512_set1_ps(s->weights[from + c][k]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    acc[c][v] = _mm512_fmadd_ps(weight, value[v], acc[c][v]);
            }
        }
#pragma GCC unroll 4
        for (int c = 0; c < queries; c++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) _mm512_storeu_ps(at + c * width + 16 * v, acc[c][v]);
    }
}

/* One query's scores to weights. sees: of each 16 keys, those that it may look at. */
INLINE void soften(State* s, int c, const __mmask16* sees, float softcap) {
    __m512 most = _mm512_set1_ps(s->most[c]), nothing = _mm512_set1_ps(-__builtin_inff());
    float* weights = s->weights[c];
    __m512 scores[CHUNK / 16];
#pragma GCC unroll 4
    for (int j = 0; j < CHUNK / 16; j++) {
        scores[j] = _mm512_loadu_ps(weights + 16 * j);
        if (softcap != 0.f) { /* softcap * tanh(x / softcap) */
            __m512 x = _mm512_mul_ps(scores[j], _mm512_set1_ps(2.f / softcap));
            __m512 e = exponential(_mm512_min_ps(_mm512_set1_ps(40.f), x)),
                   one = _mm512_set1_ps(1.f);
            scores[j] = _mm512_mul_ps(_mm512_set1_ps(softcap),
                                      _mm512_div_ps(_mm512_sub_ps(e, one), _mm512_add_ps(e, one)));
        }
        scores[j] = _mm512_mask_mov_ps(nothing, sees[j], scores[j]);
        most = _mm512_max_ps(most, scores[j]);
    }
    float highest = _mm512_reduce_max_ps(most);
    s->shrink[c] = 1.f;
    if (highest == -__builtin_inff()) { /* it has seen nothing yet */
        memset(weights, 0, sizeof(float) * CHUNK);
        return;
    }
    __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int j = 0; j < CHUNK / 16; j++) {
        __m512 weight = _mm512_maskz_mov_ps(
            sees[j], exponential(_mm512_sub_ps(scores[j], _mm512_set1_ps(highest))));
        _mm512_storeu_ps(weights + 16 * j, weight);
        sum = _mm512_add_ps(sum, weight);
    }
    if (s->most[c] != highest)
        s->shrink[c] = _mm512_cvtss_f32(exponential(_mm512_set1_ps(s->most[c] - highest)));
    s->total[c] = s->total[c] * s->shrink[c] + _mm512_reduce_add_ps(sum);
    s->most[c] = highest;
}

/* (n, width) numbers, zeros up to CHUNK, as (width, CHUNK). */
INLINE void turn(const float* from, long row, long n, long width, float* to) {
    for (long k = 0; k < CHUNK; k += 16)
        for (long d = 0; d < width; d += 16) {
            __m512i rows[16], turned[16];
#pragma GCC unroll 16
            for (long i = 0; i < 16; i++)
                rows[i] = k + i < n ? _mm512_loadu_si512(from + (k + i) * row + d)
                                    : _mm512_setzero_si512();
            turn_words(rows, turned);
#pragma GCC unroll 16
            for (long i = 0; i < 16; i++) _mm512_storeu_si512(to + (d + i) * CHUNK + k, turned[i]);
        }
}

INLINE const float* wide(int type, const char* at, long* row, long n, long width, float* room) {
    if (!type) return (const float*)at;
    for (long k = 0; k < n; k++)
        for (long d = 0; d < width; d += 16)
            _mm512_storeu_ps(room + k * width + d, some_numbers(at, k * *row + d, 16, 1));
    *row = width;
    return room;
}

/* Those of 16 lanes that are in [from, to). */
INLINE __mmask16 lanes(long from, long to) {
    uint32_t below = from <= 0 ? 0 : from >= 16 ? 0xffff : (1u << from) - 1;
    uint32_t until = to <= 0 ? 0 : to >= 16 ? 0xffff : (1u << to) - 1;
    return (__mmask16)(until & ~below);
}

INLINE long earliest(const long* position, int count) {
    long least = position[0];
    for (int c = 1; c < count; c++) least = position[c] < least ? position[c] : least;
    return least;
}

/* Neighbours among the queries, `count` of them from base on, that look at one part. user,
   position: which of its users each is of, and that token's position. */
typedef struct {
    const Part* part;
    int base, count;
    long user[QUERIES], position[QUERIES];
} Look;

/* then: the part that is looked at next, or none. */
INLINE void look_at(int type, State* s, const Look* look, const Part* then, long g, long width,
                    float softcap, long window) {
    const Part* part = look->part;
    const long *user = look->user, *position = look->position;
    int base = look->base, count = look->count;
    float turned[CHUNK * WIDEST], room[CHUNK * WIDEST];
    long size = type ? 2 : 4;
    long end =
        part->causal && user[count - 1] + 1 < part->length ? user[count - 1] + 1 : part->length;
    for (long at = 0; at < end; at += CHUNK) {
        long n = end - at < CHUNK ? end - at : CHUNK, row = part->key_row;
        if (window && !part->positions &&
            earliest(position, count) - window >= part->start + at + n - 1)
            continue; /* too far back for all of them */
        const char* keys = part->keys + (g * part->key_head + at * row) * size;
        const char* values = part->values + (g * part->value_head + at * part->value_row) * size;
        Ahead weighed = ahead(values, part->value_row * size, n, width * size);
        Ahead later = ahead(keys + CHUNK * row * size, row * size, end - at - CHUNK, width * size);
        if (end - at <= CHUNK)
            later = then ? ahead(then->keys + g * then->key_head * size, then->key_row * size,
                                 then->length, width * size)
                         : ahead(keys, 0, 0, 0);
        const float* k = wide(type, keys, &row, n, width, room);
        if (count <= FEW)
            score_few(s, base, count, k, row, n, width, &weighed);
        else {
            turn(k, row, n, width, turned);
            for (int c = 0; c < count; c += 4) switch (count - c) {
                    case 1:
                        score(1, s, base + c, turned, width, c ? 0 : &weighed);
                        break;
                    case 2:
                        score(2, s, base + c, turned, width, c ? 0 : &weighed);
                        break;
                    case 3:
                        score(3, s, base + c, turned, width, c ? 0 : &weighed);
                        break;
                    default:
                        score(4, s, base + c, turned, width, c ? 0 : &weighed);
                }
        }
        for (int c = 0; c < count; c++) {
            long first = window && !part->positions ? position[c] - window + 1 - part->start : 0;
            long last = part->causal && user[c] + 1 < at + n ? user[c] + 1 : at + n;
            __mmask16 sees[CHUNK / 16];
            for (long j = 0; j < CHUNK / 16; j++) {
                long key = at + 16 * j;
                __mmask16 m = lanes(first - key, last - key);
                if (m && part->mask)
                    m &=
                        _mm512_cmpneq_epi32_mask(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(
                                                     m, part->mask + user[c] * part->length + key)),
                                                 _mm512_setzero_si512());
                if (m && window && part->positions) {
                    __m512i least = _mm512_set1_epi64(position[c] - window + 1);
                    const long* of = part->positions + key;
                    __mmask8 low =
                        _mm512_cmpge_epi64_mask(_mm512_maskz_loadu_epi64((__mmask8)m, of), least);
                    __mmask8 high = _mm512_cmpge_epi64_mask(
                        _mm512_maskz_loadu_epi64((__mmask8)(m >> 8), of + 8), least);
                    m &= (__mmask16)(low | high << 8);
                }
                sees[j] = m;
            }
            soften(s, base + c, sees, softcap);
        }
        row = part->value_row;
        const float* v = wide(type, values, &row, n, width, room);
        int vectors = width % 64 ? 1 : 4;
        for (int c = 0; c < count; c += 4) switch (count - c) {
                case 1:
                    vectors == 1 ? weigh(1, 1, s, base + c, v, row, n, width, c ? 0 : &later)
                                 : weigh(1, 4, s, base + c, v, row, n, width, c ? 0 : &later);
                    break;
                case 2:
                    vectors == 1 ? weigh(2, 1, s, base + c, v, row, n, width, c ? 0 : &later)
                                 : weigh(2, 4, s, base + c, v, row, n, width, c ? 0 : &later);
                    break;
                case 3:
                    vectors == 1 ? weigh(3, 1, s, base + c, v, row, n, width, c ? 0 : &later)
                                 : weigh(3, 4, s, base + c, v, row, n, width, c ? 0 : &later);
                    break;
                default:
                    vectors == 1 ? weigh(4, 1, s, base + c, v, row, n, width, c ? 0 : &later)
                                 : weigh(4, 4, s, base + c, v, row, n, width, c ? 0 : &later);
            }
    }
}

static void look_at_any(int type, State* s, const Look* look, const Part* then, long g, long width,
                        float softcap, long window) {
    if (!look->count) return;
    if (type) {
        if (width == 64)
            look_at(1, s, look, then, g, 64, softcap, window);
        else
            look_at(1, s, look, then, g, width, softcap, window);
    } else {
        if (width == 64)
            look_at(0, s, look, then, g, 64, softcap, window);
        else
            look_at(0, s, look, then, g, width, softcap, window);
    }
}

/* Which user of a part a token is; -1 for none. */
static long user_of(const Part* part, long token) {
    if (!part->users) {
        long at = token - part->first_user;
        return at >= 0 && at < part->n_users ? at : -1;
    }
    long low = 0, high = part->n_users;
    while (low < high) {
        long middle = (low + high) / 2;
        if (part->users[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low < part->n_users && part->users[low] == token ? low : -1;
}

/* Attention of the tokens of one forward, each over all parts that it is a user of.

   q, and out: (tokens, KV heads * group, width) of these strides by token and head, out contiguous;
   positions (tokens). width: a multiple of 16, at most WIDEST. window: how many positions back a
   token sees, itself included, 0 for all. `some` queries, at most QUERIES, are one thread's at a
   time; those of one token are neighbours. */
void hinlap_attend(int type, const Part* parts, long n_parts, const void* q, long q_token,
                   long q_head, const long* positions, long tokens, long kv_heads, long group,
                   long width, float scale, float softcap, long window, long some, void* out) {
    long queries = tokens * group, blocks = (queries + some - 1) / some;
#pragma omp parallel for schedule(dynamic, 1)
    for (long task = 0; task < kv_heads * blocks; task++) {
        long g = task / blocks, from = task % blocks * some;
        int count = (int)(queries - from < some ? queries - from : some);
        State all;
        for (int c = 0; c < count; c++) {
            long t = (from + c) / group, h = g * group + (from + c) % group;
            for (long d = 0; d < width; d++)
                all.q[c * width + d] = scale * number(q, t * q_token + h * q_head + d, type);
            all.most[c] = -__builtin_inff(), all.total[c] = 0.f;
        }
        memset(all.acc, 0, sizeof(float) * count * width);
        Look looks[2];
        int latest = 0;
        looks[latest].count = 0;
        for (long i = 0; i < n_parts; i++)
            for (int c = 0; c < count; c++) { /* neighbours among its users go together */
                Look* look = looks + !latest;
                look->part = parts + i, look->base = c, look->count = 0;
                for (; c < count; c++, look->count++) {
                    long t = (from + c) / group, user = user_of(parts + i, t);
                    if (user < 0) break;
                    look->user[look->count] = user, look->position[look->count] = positions[t];
                }
                if (!look->count) continue;
                look_at_any(type, &all, looks + latest, look->part, g, width, softcap, window);
                latest = !latest;
            }
        look_at_any(type, &all, looks + latest, 0, g, width, softcap, window);
        for (int c = 0; c < count; c++) {
            long t = (from + c) / group, h = g * group + (from + c) % group;
            for (long d = 0; d < width; d++)
                put(out, (t * kv_heads * group + h) * width + d,
                    all.acc[c * width + d] / all.total[c], type);
        }
    }
}
