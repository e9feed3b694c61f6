/* A batch of queries: a register-blocked product whose results are compared where they are made. */
#ifndef PALATE_GEMM_H
#define PALATE_GEMM_H

#include "candidates.h"

#define QUERIES 6 /* rows of a register tile */
#define ITEMS 16  /* columns of a register tile: two vectors */
#define PACK_BYTES (64 * 1024)

/* Transpose eight rows of eight numbers into out[d * ITEMS + lane]. */
INLINE void transpose_eight(__m256 r[8], float *out) {
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_store_ps(out + i * ITEMS, _mm256_permute2f128_ps(u[i], u[i + 4], 0x20));
        _mm256_store_ps(out + (i + 4) * ITEMS, _mm256_permute2f128_ps(u[i], u[i + 4], 0x31));
    }
}

/* Copy n rows from `row` on into panels of ITEMS columns, (panel, dim, ITEMS); missing rows are 0. */
INLINE void pack_items(const segment *s, const int dtype, int64_t row, int64_t n, float *out) {
    const int64_t dim = s->dim;
    for (int64_t p = 0; p < n; p += ITEMS, out += dim * ITEMS) {
        for (int half = 0; half < 2; half++) {
            const int64_t first = p + 8 * half, here = n - first < 8 ? n - first : 8;
            int64_t d = 0;
            for (; here == 8 && d + 8 <= dim; d += 8) {
                __m256 r[8];
                for (int i = 0; i < 8; i++)
                    r[i] = load_eight(s->vectors, (row + first + i) * dim + d, dtype);
                transpose_eight(r, out + d * ITEMS + 8 * half);
            }
            for (; d < dim; d++)
                for (int i = 0; i < 8; i++)
                    out[d * ITEMS + 8 * half + i] =
                        i < here ? load_one(s->vectors, (row + first + i) * dim + d, dtype) : 0.0f;
        }
    }
}

/* Score `rows` packed queries against ITEMS packed items; 0 if none exceeds its cut, else 1 with
   the scores in out (rows, ITEMS). */
INLINE int tile(const int rows, const float *a, const float *b, int64_t dim, const float *cut,
                const float *bias, float *out) {
    /* Named registers: compilers keep an array of them in memory. */
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define START(r) __m256 left##r = low, right##r = high;
#define MULTIPLY(r)                                        \
    if (rows > r) {                                        \
        const __m256 q = _mm256_broadcast_ss(a + r);       \
        left##r = _mm256_fmadd_ps(q, left, left##r);       \
        right##r = _mm256_fmadd_ps(q, right, right##r);    \
    }
#define COMPARE(r)                                                                            \
    if (rows > r)                                                                             \
        any = _mm256_or_ps(any, _mm256_cmp_ps(_mm256_max_ps(left##r, right##r),               \
                                              _mm256_broadcast_ss(cut + r), _CMP_GT_OQ));
#define STORE(r)                                       \
    if (rows > r) {                                    \
        _mm256_store_ps(out + r * ITEMS, left##r);     \
        _mm256_store_ps(out + r * ITEMS + 8, right##r); \
    }
    const __m256 low = bias ? _mm256_loadu_ps(bias) : _mm256_setzero_ps();
    const __m256 high = bias ? _mm256_loadu_ps(bias + 8) : _mm256_setzero_ps();
    EACH_ROW(START)
    for (int64_t d = 0; d < dim; d++, a += rows, b += ITEMS) {
        const __m256 left = _mm256_load_ps(b), right = _mm256_load_ps(b + 8);
        EACH_ROW(MULTIPLY)
    }
    __m256 any = _mm256_setzero_ps();
    EACH_ROW(COMPARE)
    if (_mm256_testz_ps(any, any)) return 0;
    EACH_ROW(STORE)
    return 1;
#undef EACH_ROW
#undef START
#undef MULTIPLY
#undef COMPARE
#undef STORE
}

AVX2 static int tile_of(int rows, const float *a, const float *b, int64_t dim, const float *cut,
                        const float *bias, float *out) {
    switch (rows) {
        case 1: return tile(1, a, b, dim, cut, bias, out);
        case 2: return tile(2, a, b, dim, cut, bias, out);
        case 3: return tile(3, a, b, dim, cut, bias, out);
        case 4: return tile(4, a, b, dim, cut, bias, out);
        case 5: return tile(5, a, b, dim, cut, bias, out);
        default: return tile(6, a, b, dim, cut, bias, out);
    }
}

/* Panels share the queries evenly: 32 are 6, 6, 5, 5, 5, 5. */
INLINE int panel_rows(int64_t n_queries, int64_t panels, int64_t p) {
    return (int)(n_queries / panels + (p < n_queries % panels));
}

AVX2 static void pack_queries(const job *j, int64_t dim, int64_t panels, float *out) {
    const float *q = j->queries;
    for (int64_t p = 0; p < panels; p++) {
        const int rows = panel_rows(j->n_queries, panels, p);
        for (int64_t d = 0; d < dim; d++)
            for (int r = 0; r < rows; r++) *out++ = q[r * dim + d];
        q += rows * dim;
    }
}

/* Push what a tile found; the cuts may rise while it does. */
AVX2 static __attribute__((noinline)) void take_tile(worker *w, const job *j, const segment *s,
                                                     int64_t q0, int rows, int64_t pos, int64_t n,
                                                     const float *scores) {
    const unsigned columns = n < ITEMS ? (1u << n) - 1 : 0xFFFF;
    for (int r = 0; r < rows; r++, scores += ITEMS) {
        const int64_t q = q0 + r;
        const __m256 cut = _mm256_broadcast_ss(w->cut + q);
        const __m256 left = _mm256_cmp_ps(_mm256_load_ps(scores), cut, _CMP_GT_OQ);
        const __m256 right = _mm256_cmp_ps(_mm256_load_ps(scores + 8), cut, _CMP_GT_OQ);
        unsigned hits = (unsigned)_mm256_movemask_ps(left) | (unsigned)_mm256_movemask_ps(right) << 8;
        for (hits &= columns; hits; hits &= hits - 1) {
            const int i = __builtin_ctz(hits);
            const float score = scores[i], error = w->error[q];
            if (score > w->cut[q]) push(w, j, s, q, pos + i, score - error, score + error);
        }
    }
}

/* Bring the next block's lines closer while this one is computed. */
INLINE void prefetch(const char **from, const char *end, int lines) {
    for (int i = 0; i < lines && *from < end; i++, *from += 64) _mm_prefetch(*from, _MM_HINT_T1);
}

INLINE int scan_batch(worker *w, const job *j, const segment *s, const int dtype) {
    const int64_t dim = s->dim, panels = (j->n_queries + QUERIES - 1) / QUERIES;
    const int64_t room = j->block + ITEMS, width = dtype == FLOAT32 ? 4 : 2;
    float *items = aligned_alloc(64, (size_t)(room * dim * 4 + 64) / 64 * 64);
    float *queries = malloc(sizeof(float) * (j->n_queries * dim + 1));
    float *bias = malloc(sizeof(float) * room);
    const int lines = (int)(j->block * dim * width / 64 / (panels * (j->block / ITEMS)) + 1);
    if (items && queries && bias) pack_queries(j, dim, panels, queries);
    int64_t turn = 0, at = take_block(w, j, s, &turn);
    while (items && queries && bias && at < s->n) {
        const int64_t n = s->n - at < j->block ? s->n - at : j->block;
        pack_items(s, dtype, at, n, items);
        if (s->bias) memcpy(bias, s->bias + at, sizeof(float) * n);
        /* Places that fill the last panel: a NaN there would hide the item that it is compared with. */
        for (int64_t i = n; i < n + ITEMS; i++) bias[i] = 0.0f;
        set_cuts(w, j, dim, s->norms[at / NORM_BLOCK], 0, NULL);
        const int64_t then = take_block(w, j, s, &turn);
        const char *ahead = (const char *)s->vectors + then * dim * width;
        const int64_t more = then >= s->n ? 0 : s->n - then < j->block ? s->n - then : j->block;
        const char *end = ahead + more * dim * width;
        const float *a = queries;
        for (int64_t p = 0, q = 0; p < panels; p++) {
            const int rows = panel_rows(j->n_queries, panels, p);
            for (int64_t i = 0; i < n; i += ITEMS) {
                float scores[QUERIES * ITEMS] __attribute__((aligned(32)));
                prefetch(&ahead, end, lines);
                if (tile_of(rows, a, items + i * dim, dim, w->cut + q, s->bias ? bias + i : NULL, scores))
                    take_tile(w, j, s, q, rows, at + i, n - i, scores);
            }
            a += rows * dim;
            q += rows;
        }
        at = then;
    }
    const int failed = !(items && queries && bias);
    free(items);
    free(queries);
    free(bias);
    return failed;
}

#endif
