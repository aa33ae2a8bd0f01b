/* Products of many rows with a weight that lies as it was read, both ways: pieces of it are turned,
   or their rows paired, into the second cache while what is there is multiplied.

   Sums are taken in order, DEPTH words at once, and added; none depends on threads. */

#include "tiles.h"

/* words that are summed over at once, rows of a task at most and at the least */
enum { DEPTH = 1024, MOST = 384, FEWEST = 48 };

typedef struct {
    const char *x, *w, *bias;
    char* y;
    long rows, in, out, back; /* of w: (out, in); back: sums run over out, and y is (rows, in) */
    Thin thin;
} Product;

INLINE long summed(const Product* p) { return p->back ? p->out : p->in; }
INLINE long made(const Product* p) { return p->back ? p->in : p->out; }

/* Words [from, from + depth) of what is summed over, for columns [column, column + width): (depth,
   CHUNK), or (depth, width) of paired rows. */
INLINE void lay_out(int type, const Product* p, long from, long depth, long column, long width,
                    float* to) {
    long size = type ? 2 : 4, pace = type ? 2 : 1, row = p->in * size;
    if (!p->back)
        turn_rows(0, 0, p->w + column * row + from * 4, row, width, depth, to);
    else
        pair_rows(type, p->w + from * pace * row + column * size, row,
                  least(depth * pace, p->out - from * pace), width, to);
}

/* Asks for one of `parts` parts of what `lay_out` would read: the next columns, which nothing else
   reads in order. */
INLINE void ask(int type, const Product* p, long from, long depth, long column, long part,
                long parts) {
    long size = type ? 2 : 4, pace = type ? 2 : 1, row = p->in * size;
    if (column >= made(p)) return;
    long bytes = p->back ? CHUNK * size : depth * 4, rows = p->back ? depth * pace : CHUNK;
    const char* at =
        p->back ? p->w + from * pace * row + column * size : p->w + column * row + from * 4;
    for (long r = rows * part / parts; r < rows * (part + 1) / parts; r++)
        for (long i = 0; i < bytes; i += 64) _mm_prefetch(at + r * row + i, _MM_HINT_T1);
}

/* CHUNK columns of some rows. own: room for (MOST, CHUNK) sums and a laid out piece. */
INLINE void some_rows(int type, const Product* p, long from, long to, Columns columns, float* own) {
    long size = type ? 2 : 4, words = words_of(type, summed(p)), row = summed(p) * size;
    long column = columns.from, width = columns.width, b_row = p->back ? width : CHUNK;
    long tiles = (to - from + TILE - 1) / TILE;
    float *piece = own + MOST * CHUNK, biases[CHUNK] = {0};
    for (long i = 0; p->bias && i < width; i++) biases[i] = number(p->bias, column + i, type);
    for (long begin = 0; begin < words; begin += DEPTH) {
        long depth = least(DEPTH, words - begin);
        lay_out(type, p, begin, depth, column, width, piece);
        if (begin) memset(biases, 0, sizeof biases);
        for (long r = from; r < to; r += TILE) {
            const float* rows[TILE];
            __m512 sums[TILE][VECTORS];
            long count = least(TILE, to - r);
            float* so_far = own + (r - from) * CHUNK;
            find_rows(p->x + r * row + begin * 4, row, count, rows);
            ask(type, p, begin, depth, column + CHUNK, (r - from) / TILE, tiles);
#pragma GCC unroll 6
            for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) sums[i][v] = _mm512_loadu_ps(biases + 16 * v);
            add_tile(type, rows, 1, piece, b_row, width, depth, sums);
#pragma GCC unroll 6
            for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    if (begin) /* sums of sums: fewer roundings */
                        sums[i][v] =
                            _mm512_add_ps(sums[i][v], _mm512_loadu_ps(so_far + i * CHUNK + 16 * v));
            if (begin + depth == words) {
                if (p->thin.depth)
                    add_thin(type, &p->thin, r, count, columns.layer, column, width, sums);
                put_rows(type, sums, count, p->y + (r * made(p) + column) * size, made(p) * size, 0,
                         width);
                continue;
            }
#pragma GCC unroll 6
            for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    _mm512_storeu_ps(so_far + i * CHUNK + 16 * v, sums[i][v]);
        }
    }
}

/* y = x w' + bias of x (rows, in), or, back, x w of x (rows, out), contiguous; in and out: 16, 32,
   ... bias, thin: or none. space: (MOST + DEPTH) * CHUNK float32 numbers for each thread. */
void hinlap_product(int type, const void* x, const void* w, const void* bias, void* y, long rows,
                    long in, long out, long back, const Thin* thin, long threads, float* space) {
    if (!rows) return;
    Product p = {x, w, bias, y, rows, in, out, back, {.layers = 1, .ends = {back ? in : out}}};
    if (thin) p.thin = *thin;
    long columns = tasks_of(p.thin.ends, p.thin.layers);
    /* rows in parts where there are few columns, so that no thread waits long for another */
    long parts = least((8 * threads + columns - 1) / columns, (rows + FEWEST - 1) / FEWEST);
    if (parts < (rows + MOST - 1) / MOST) parts = (rows + MOST - 1) / MOST;
    long some = up_to((rows + parts - 1) / parts, TILE);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (long task = 0; task < columns * parts; task++) {
        float* own = space + omp_get_thread_num() * (MOST + DEPTH) * CHUNK;
        Columns here = columns_of(p.thin.ends, task / parts);
        long from = task % parts * some;
        if (from >= rows) continue;
        if (type)
            some_rows(1, &p, from, least(rows, from + some), here, own);
        else
            some_rows(0, &p, from, least(rows, from + some), here, own);
    }
}
