/* Norms, gates and rotary positions, each in one pass over its numbers. */

#include "vectors.h"

enum { MANY = 1 << 14 }; /* numbers from which a second thread pays */

/* gate = silu(gate) * up, n numbers each. */
void hinlap_silu_times(int type, void* gate, const void* up, long n) {
#pragma omp parallel for schedule(static) if (n > MANY)
    for (long i = 0; i < n; i += 16) {
        __m512 x = some_numbers(gate, i, n - i, type);
        put_some(gate, i, n - i, silu_times(type, x, some_numbers(up, i, n - i, type)), type);
    }
}

/* y (rows, width) = w * x / sqrt(mean(x * x) + epsilon) of contiguous x. */
void hinlap_rms_norm(int type, const void* x, const void* w, float epsilon, void* y, long rows,
                     long width) {
#pragma omp parallel for schedule(static) if (rows * width > MANY)
    for (long r = 0; r < rows; r++) {
        __m512 sum = _mm512_setzero_ps();
        for (long i = 0; i < width; i += 16) {
            __m512 some = some_numbers(x, r * width + i, width - i, type);
            sum = _mm512_fmadd_ps(some, some, sum);
        }
        __m512 scale =
            _mm512_set1_ps(1.f / __builtin_sqrtf(_mm512_reduce_add_ps(sum) / width + epsilon));
        for (long i = 0; i < width; i += 16) {
            __m512 some = some_numbers(x, r * width + i, width - i, type);
            some = kept(type, _mm512_mul_ps(some, scale));
            put_some(y, r * width + i, width - i,
                     _mm512_mul_ps(some, some_numbers(w, i, width - i, type)), type);
        }
    }
}

INLINE __m512 product(int type, __m512 x, const void* by, long i, long n) {
    return kept(type, _mm512_mul_ps(x, some_numbers(by, i, n, type)));
}

/* y = x * cos + (-second half, first half of x) * sin, x and y (tokens, heads, width) of the same
   strides, cos and sin (tokens, width). */
void hinlap_rotate(int type, const void* x, const void* cos, const void* sin, void* y, long tokens,
                   long heads, long width, long token, long head) {
    long half = width / 2;
#pragma omp parallel for schedule(static) if (tokens * heads * width > MANY)
    for (long t = 0; t < tokens; t++)
        for (long h = 0; h < heads; h++)
            for (long i = 0; i < half; i += 16) {
                long n = half - i, at = t * token + h * head + i, of = t * width + i;
                __m512 a = some_numbers(x, at, n, type), b = some_numbers(x, at + half, n, type);
                __m512 first = product(type, a, cos, of, n), other = product(type, b, sin, of, n);
                put_some(y, at, n, _mm512_sub_ps(first, other), type);
                first = product(type, b, cos, of + half, n),
                other = product(type, a, sin, of + half, n);
                put_some(y, at + half, n, _mm512_add_ps(first, other), type);
            }
}
