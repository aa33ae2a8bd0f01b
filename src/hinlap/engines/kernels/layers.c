/* Norms, gates, rotary positions and the loss, each in one pass or two over its numbers. */

#include "kernels.h"
#include "vectors.h"

enum { MANY = 1 << 14 }; /* numbers from which a second thread pays */

/* out = silu(gate) * up, (rows, width) each, rows of these strides. */
void hinlap_silu_times(int type, const void* gate, long gate_row, const void* up, long up_row,
                       void* out, long out_row, long rows, long width) {
#pragma omp parallel for schedule(static) if (rows * width > MANY)
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < width; i += 16) {
            __m512 g = some_numbers(gate, r * gate_row + i, width - i, type);
            __m512 u = some_numbers(up, r * up_row + i, width - i, type);
            put_some(out, r * out_row + i, width - i, silu_times(type, g, u), type);
        }
}

/* Gradients of that: of the gate, and of up beside it, (rows, 2 * width) contiguous; grad (rows,
   width) contiguous. */
void hinlap_silu_times_back(int type, const void* grad, const void* gate, long gate_row,
                            const void* up, long up_row, void* both, long rows, long width) {
    __m512 one = _mm512_set1_ps(1.f);
#pragma omp parallel for schedule(static) if (rows * width > MANY)
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < width; i += 16) {
            __m512 d = some_numbers(grad, r * width + i, width - i, type);
            __m512 g = some_numbers(gate, r * gate_row + i, width - i, type);
            __m512 u = some_numbers(up, r * up_row + i, width - i, type);
            __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), g));
            __m512 share = _mm512_div_ps(one, _mm512_add_ps(one, e)); /* sigmoid */
            __m512 silu = _mm512_mul_ps(g, share);
            /* silu' = share * (1 + g * (1 - share)) = share + silu * (1 - share) */
            __m512 slope = _mm512_fmadd_ps(silu, _mm512_sub_ps(one, share), share);
            __m512 into_gate = _mm512_mul_ps(kept(type, _mm512_mul_ps(d, u)), slope);
            put_some(both, 2 * r * width + i, width - i, into_gate, type);
            put_some(both, (2 * r + 1) * width + i, width - i, _mm512_mul_ps(kept(type, silu), d),
                     type);
        }
}

/* One row of a norm: x's numbers are of one type, w's and y's of another or the same. */
INLINE float normalised(int type, int narrow, const void* x, const void* w, float epsilon, void* y,
                        long at, long width) {
    __m512 sum = _mm512_setzero_ps();
    for (long i = 0; i < width; i += 16) {
        __m512 some = some_numbers(x, at + i, width - i, type);
        sum = _mm512_fmadd_ps(some, some, sum);
    }
    float scale = 1.f / __builtin_sqrtf(_mm512_reduce_add_ps(sum) / width + epsilon);
    for (long i = 0; i < width; i += 16) {
        __m512 some = some_numbers(x, at + i, width - i, type);
        some = kept(narrow, _mm512_mul_ps(some, _mm512_set1_ps(scale)));
        put_some(y, at + i, width - i, _mm512_mul_ps(some, some_numbers(w, i, width - i, narrow)),
                 narrow);
    }
    return scale;
}

/* y (rows, width) = w * x * scale, scale = 1 / sqrt(mean(x * x) + epsilon), of contiguous x; scales
   (rows) are kept unless none are asked for. narrow: the type of w and y; x's or 1. */
void hinlap_rms_norm(int type, int narrow, const void* x, const void* w, float epsilon, void* y,
                     float* scales, long rows, long width) {
#pragma omp parallel for schedule(static) if (rows * width > MANY)
    for (long r = 0; r < rows; r++) {
        float scale;
        if (type)
            scale = normalised(1, 1, x, w, epsilon, y, r * width, width);
        else if (narrow)
            scale = normalised(0, 1, x, w, epsilon, y, r * width, width);
        else
            scale = normalised(0, 0, x, w, epsilon, y, r * width, width);
        if (scales) scales[r] = scale;
    }
}

/* One row of the gradient of a norm in x: y of x's type, grad of w's. */
INLINE void normalised_back(int type, int narrow, const void* grad, const void* x, const void* w,
                            float scale, void* y, long at, long width) {
    __m512 sum = _mm512_setzero_ps();
    for (long i = 0; i < width; i += 16) {
        __m512 d = some_numbers(grad, at + i, width - i, narrow);
        d = _mm512_mul_ps(d, some_numbers(w, i, width - i, narrow));
        sum = _mm512_fmadd_ps(d, some_numbers(x, at + i, width - i, type), sum);
    }
    float along = _mm512_reduce_add_ps(sum) / width * scale * scale * scale;
    for (long i = 0; i < width; i += 16) {
        __m512 d = some_numbers(grad, at + i, width - i, narrow);
        d = _mm512_mul_ps(d, some_numbers(w, i, width - i, narrow));
        d = _mm512_mul_ps(d, _mm512_set1_ps(scale));
        __m512 some = some_numbers(x, at + i, width - i, type);
        put_some(y, at + i, width - i, _mm512_fnmadd_ps(some, _mm512_set1_ps(along), d), type);
    }
}

/* The gradient of hinlap_rms_norm in x, from its scales. */
void hinlap_rms_norm_back(int type, int narrow, const void* grad, const void* x, const void* w,
                          const float* scales, void* y, long rows, long width) {
#pragma omp parallel for schedule(static) if (rows * width > MANY)
    for (long r = 0; r < rows; r++)
        if (type)
            normalised_back(1, 1, grad, x, w, scales[r], y, r * width, width);
        else if (narrow)
            normalised_back(0, 1, grad, x, w, scales[r], y, r * width, width);
        else
            normalised_back(0, 0, grad, x, w, scales[r], y, r * width, width);
}

/* Of each row of logits, (rows, width) contiguous, the logarithm of the sum of exponentials, and
   where its first highest number is; what is not a number, or plus infinity, gives a sum that is
   not finite. */
void hinlap_likeliest(int type, const void* logits, long rows, long width, float* sums,
                      long* places) {
#pragma omp parallel for schedule(static)
    for (long r = 0; r < rows; r++) {
        const char* row = (const char*)logits + r * width * (type ? 2 : 4);
        __m512 most = _mm512_set1_ps(-__builtin_inff()), sum = _mm512_setzero_ps(), whole = sum;
        __m512i found = _mm512_setzero_si512(), place = found; /* which vector of 16 */
        for (long i = 0; i < width; i += 16) {
            __m512 some = some_numbers(row, i, width - i, type);
            __mmask16 mask = first(width - i);
            mask = _mm512_mask_cmp_ps_mask(mask, some, most, _CMP_GT_OQ);
            most = _mm512_mask_mov_ps(most, mask, some);
            found = _mm512_mask_mov_epi32(found, mask, place);
            place = _mm512_add_epi32(place, _mm512_set1_epi32(1));
        }
        float highest = _mm512_reduce_max_ps(most), each[16];
        int vectors[16];
        _mm512_storeu_ps(each, most), _mm512_storeu_si512(vectors, found);
        places[r] = width - 1;
        for (long i = 0; i < 16 && i < width; i++)
            if (each[i] == highest && 16L * vectors[i] + i < places[r])
                places[r] = 16L * vectors[i] + i;
        for (long i = 0; i < width; i += 16) {
            __mmask16 mask = first(width - i);
            __m512 some = some_numbers(row, i, width - i, type);
            some = exponential(_mm512_sub_ps(some, _mm512_set1_ps(highest)));
            sum = _mm512_mask_add_ps(sum, mask, sum, some);
            if (i % 1024) continue; /* sums of sums: fewer roundings */
            whole = _mm512_add_ps(whole, sum), sum = _mm512_setzero_ps();
        }
        sum = _mm512_add_ps(whole, sum);
        sums[r] = highest + __builtin_logf(_mm512_reduce_add_ps(sum));
    }
}

/* Nats of targets under softmax(logits), (rows, width) contiguous: the sum of rows in nats, whether
   the target is the first of the likeliest in hits; the gradient, softmax less 1 at the target,
   takes the logits' place if asked for. */
void hinlap_cross_entropy(int type, void* logits, const long* targets, long rows, long width,
                          float* nats, long* hits, int gradient) {
#pragma omp parallel for schedule(dynamic, 1)
    for (long r = 0; r < rows; r++) {
        char* row = (char*)logits + r * width * (type ? 2 : 4);
        __m512 most = _mm512_set1_ps(-__builtin_inff()), sum = _mm512_setzero_ps();
        for (long i = 0; i < width; i += 16) {
            __mmask16 mask = first(width - i);
            most = _mm512_mask_max_ps(most, mask, most, some_numbers(row, i, width - i, type));
        }
        float highest = _mm512_reduce_max_ps(most);
        for (long i = 0; i < width; i += 16) {
            __mmask16 mask = first(width - i);
            __m512 some = some_numbers(row, i, width - i, type);
            some = exponential(_mm512_sub_ps(some, _mm512_set1_ps(highest)));
            sum = _mm512_mask_add_ps(sum, mask, sum, some);
        }
        float total = _mm512_reduce_add_ps(sum), wanted = number(row, targets[r], type);
        nats[r] = __builtin_logf(total) + (highest - wanted);
        hits[r] = wanted == highest;
        for (long i = 0; hits[r] && i < targets[r]; i++) /* an equal one before it is the first */
            hits[r] = number(row, i, type) != highest;
        if (!gradient) continue;
        __m512 whole = _mm512_set1_ps(1.f / total);
        for (long i = 0; i < width; i += 16) {
            __m512 some = some_numbers(row, i, width - i, type);
            some = exponential(_mm512_sub_ps(some, _mm512_set1_ps(highest)));
            put_some(row, i, width - i, _mm512_mul_ps(some, whole), type);
        }
        float at = __builtin_expf(wanted - highest) / total;
        put(row, targets[r], at - 1.f, type);
    }
}

/* y = a + b, n numbers. */
void hinlap_add(int type, const void* a, const void* b, void* y, long n) {
    for (long i = 0; i < n; i += 16)
        put_some(y, i, n - i,
                 _mm512_add_ps(some_numbers(a, i, n - i, type), some_numbers(b, i, n - i, type)),
                 type);
}

INLINE __m512 product(int type, __m512 x, const void* by, long i, long n) {
    return kept(type, _mm512_mul_ps(x, some_numbers(by, i, n, type)));
}

/* y = x * cos + turn * (-second half, first half of x) * sin, turn 1 or, back, -1, x and y (tokens,
   heads, width) of the same strides, cos and sin (tokens, width). */
void hinlap_rotate(int type, const void* x, const void* cos, const void* sin, void* y, long tokens,
                   long heads, long width, long token, long head, float turn) {
    long half = width / 2;
    __m512 way = _mm512_set1_ps(turn);
#pragma omp parallel for schedule(static) if (tokens * heads * width > MANY)
    for (long t = 0; t < tokens; t++)
        for (long h = 0; h < heads; h++)
            for (long i = 0; i < half; i += 16) {
                long n = half - i, at = t * token + h * head + i, of = t * width + i;
                __m512 a = some_numbers(x, at, n, type), b = some_numbers(x, at + half, n, type);
                __m512 first = product(type, a, cos, of, n), other = product(type, b, sin, of, n);
                put_some(y, at, n, _mm512_fnmadd_ps(way, other, first), type);
                first = product(type, b, cos, of + half, n),
                other = product(type, a, sin, of + half, n);
                put_some(y, at + half, n, _mm512_fmadd_ps(way, other, first), type);
            }
}
