/* A decoder layer of Llama's shape in one call: between its operations Python would take longer
   than they do. */

#include "kernels.h"

/* y = x + attention(norm(x)), then y + down(silu(gate(norm(y))) * up(norm(y))). Weights as in
 * Layer. */
typedef struct {
    const void *attention_norm, *feed_norm;
    const void *q, *q_bias, *k, *k_bias, *v, *v_bias, *o, *o_bias, *gate, *up, *down, *down_bias;
    long width, inner, heads, kv_heads, head;
    long window;
    float attention_epsilon, feed_epsilon, scale, softcap;
} Block;

/* What all blocks of one forward share. Room for: norms (rows, width), q (rows, heads * head), k
   and v (rows, kv_heads * head), mixed as q, inner (rows, inner), space as in wide_products.c or
   none for few rows. positions, cos and sin: of the tokens; slots: where keys and values are
   stored, or none; some: as in attention.c. */
typedef struct {
    void *norms, *q, *k, *v, *mixed, *inner, *space;
    const void *cos, *sin;
    const long *positions, *slots;
    long rows, threads, capacity, some;
} Room;

static void multiply(int type, const Room* m, const void* x, const Layer* layers, long n, long in) {
    if (m->space)
        hinlap_wide_linear(type, x, layers, n, m->rows, in, m->threads, m->space);
    else
        hinlap_linear(type, x, layers, n, m->rows, in);
}

/* x to y, (rows, width) contiguous, by parts of this layer; keys and values: blocks that the
   tokens' own are stored in, where there are slots. */
void hinlap_block(int type, const Block* b, const Room* m, const void* x, void* y, void* keys,
                  void* values, const Part* parts, long n_parts) {
    long rows = m->rows, wide = b->heads * b->head, narrow = b->kv_heads * b->head;
    hinlap_rms_norm(type, type, x, b->attention_norm, b->attention_epsilon, m->norms, 0, rows,
                    b->width);
    Layer inputs[] = {{b->q, b->q_bias, m->q, wide},
                      {b->k, b->k_bias, m->k, narrow},
                      {b->v, b->v_bias, m->v, narrow}};
    multiply(type, m, m->norms, inputs, 3, b->width);
    hinlap_rotate(type, m->q, m->cos, m->sin, m->q, rows, b->heads, b->head, wide, b->head, 1.f);
    hinlap_rotate(type, m->k, m->cos, m->sin, m->k, rows, b->kv_heads, b->head, narrow, b->head,
                  1.f);
    if (m->slots) {
        hinlap_store(type, m->k, narrow, b->head, rows, b->kv_heads, b->head, m->slots, m->capacity,
                     keys);
        hinlap_store(type, m->v, narrow, b->head, rows, b->kv_heads, b->head, m->slots, m->capacity,
                     values);
    }
    hinlap_attend(type, parts, n_parts, m->q, wide, b->head, m->positions, rows, b->kv_heads,
                  b->heads / b->kv_heads, b->head, b->scale, b->softcap, b->window, m->some,
                  m->mixed);
    Layer output = {b->o, b->o_bias, m->norms, b->width};
    multiply(type, m, m->mixed, &output, 1, wide);
    hinlap_add(type, x, m->norms, y, rows * b->width);
    hinlap_rms_norm(type, type, y, b->feed_norm, b->feed_epsilon, m->norms, 0, rows, b->width);
    if (m->space)
        hinlap_wide_gated(type, m->norms, b->gate, b->up, m->inner, rows, b->width, b->inner,
                          m->threads, m->space);
    else
        hinlap_gated(type, m->norms, b->gate, b->up, m->inner, rows, b->width, b->inner);
    Layer down = {b->down, b->down_bias, m->norms, b->width};
    multiply(type, m, m->inner, &down, 1, b->inner);
    hinlap_add(type, y, m->norms, y, rows * b->width);
}
