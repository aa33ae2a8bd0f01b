/* What a block calls (block.c), and what it is told by.

   type: 0 float32, 1 bfloat16; what is computed is float32. Functions say more where they are. */

#ifndef HINLAP_KERNELS_H
#define HINLAP_KERNELS_H

/* A layer's product: y (rows, out) = x W' + b, of contiguous W (out, in), b or none. */
typedef struct {
    const void *w, *bias;
    void* y;
    long out;
} Layer;

/* Keys and values that some tokens look at: numbers (length, width) for each KV head, rows and
   heads of these strides. Tokens are users[0 .. n_users), ascending, or those from first_user on.

   positions: of its tokens, or none where they are start, start + 1, ... causal: the i-th user sees
   the first i + 1 only. mask: (n_users, length) bytes, 0 where a user may not look, or none. */
typedef struct {
    const char *keys, *values;
    long key_row, key_head, value_row, value_head;
    long length, start;
    const long* positions;
    long causal;
    const unsigned char* mask;
    const long* users;
    long first_user, n_users;
} Part;

void hinlap_linear(int type, const void* x, const Layer* layers, long n, long rows, long in);
void hinlap_wide_linear(int type, const void* x, const Layer* layers, long n, long rows, long in,
                        long threads, void* space);
void hinlap_gated(int type, const void* x, const void* gate, const void* up, void* y, long rows,
                  long in, long out);
void hinlap_wide_gated(int type, const void* x, const void* gate, const void* up, void* y,
                       long rows, long in, long out, long threads, void* space);
void hinlap_rms_norm(int type, int narrow, const void* x, const void* w, float epsilon, void* y,
                     float* scales, long rows, long width);
void hinlap_rotate(int type, const void* x, const void* cos, const void* sin, void* y, long tokens,
                   long heads, long width, long token, long head, float turn);
void hinlap_add(int type, const void* a, const void* b, void* y, long n);
void hinlap_store(int type, const char* x, long token, long head, long tokens, long heads,
                  long width, const long* slots, long capacity, char* blocks);
void hinlap_attend(int type, const Part* parts, long n_parts, const void* q, long q_token,
                   long q_head, const long* positions, long tokens, long kv_heads, long group,
                   long width, float scale, float softcap, long window, long some, void* out);

#endif
