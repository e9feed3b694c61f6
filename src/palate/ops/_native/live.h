/* A live request: a query or a few against one segment, from raw vectors to sorted places. */
#ifndef PALATE_LIVE_H
#define PALATE_LIVE_H

#include "pool.h"

/* Field order and types mirror _topk_library.py. */
typedef struct {
    const float *queries; /* (n_queries, dim), as the caller has them */
    const int64_t *excluded_ptr, *excluded;
    const uint8_t *allowed;
    float *scores; /* (n_queries, width) */
    int64_t *codes; /* (n_queries, width) */
    int64_t n_queries, k, width, capacity, metric, unit, method, limit16, block, n_workers;
    double most; /* largest squared norm that can be screened */
} request;

enum { FOUND = -1, NO_MEMORY = -2, TOO_LARGE = -3 };

typedef struct {
    job j;
    const segment *s;
    worker *workers;
    int64_t method;
    int failed;
} live;

static void live_worker(void *argument, int64_t i) {
    live *l = argument;
    if (palate_scan(&l->j, l->s, &l->workers[i], l->method))
        __atomic_store_n(&l->failed, 1, __ATOMIC_RELAXED);
}

/* Give a part of the one allocation away, eight bytes aligned. */
static void *carve(char **at, int64_t bytes) {
    void *part = *at;
    *at += (bytes + 7) / 8 * 8;
    return part;
}

/* Prepare, scan and finish in one call. Returns FOUND, the first row that is not finite, NO_MEMORY,
   or TOO_LARGE where the vectors are too long to be screened. */
AVX2 int64_t palate_live(const request *r, const segment *s) {
    const int64_t n = r->n_queries, w = r->n_workers, dim = s->dim;
    const int64_t wide = w * (n + dim + 1 + COUNTER_GAP), narrow = (4 * w + 1) * n;
    const int64_t bytes = w * n * r->capacity * sizeof(entry) + w * sizeof(worker) +
                          8 * (wide + 3 * n) + 4 * (narrow + n * dim + n) + 2 * n * s->stride8;
    char *memory = malloc(bytes + 16 * 8), *at = memory;
    if (!memory) return NO_MEMORY;
    live l = {.s = s, .method = r->method};
    l.workers = carve(&at, w * sizeof(worker));
    entry *entries = carve(&at, w * n * r->capacity * sizeof(entry));
    int64_t *wide_at = carve(&at, 8 * wide);
    double *norms = carve(&at, 8 * n), *squares = carve(&at, 8 * n), *errors = carve(&at, 8 * n);
    float *narrow_at = carve(&at, 4 * narrow), *unit = carve(&at, 4 * n * dim);
    float *scales = carve(&at, 4 * n);
    int16_t *codes16 = carve(&at, 2 * n * s->stride8);

    int64_t found = palate_prepare_rows(r->queries, n, dim, r->unit, unit, norms);
    for (int64_t q = 0; q < n && found == FOUND; q++) {
        squares[q] = norms[q] * norms[q];
        if (!(squares[q] < r->most)) found = TOO_LARGE;
    }
    if (found == FOUND) {
        l.j = (job){.queries = r->unit ? unit : r->queries, .norms = norms, .squares = squares,
                    .excluded_ptr = r->excluded_ptr, .excluded = r->excluded, .allowed = r->allowed,
                    .shared = narrow_at + 4 * w * n, .next = wide_at + w * (n + dim + 1),
                    .n_queries = n, .k = r->k, .capacity = r->capacity, .metric = r->metric,
                    .block = r->block, .n_workers = w};
        if (r->method == 2) {
            memset(codes16, 0, 2 * n * s->stride8);
            palate_query_codes(l.j.queries, n, dim, s->stride8, r->limit16, codes16, scales, errors);
            l.j.codes16 = codes16, l.j.scales16 = scales, l.j.errors16 = errors;
        }
        palate_place(l.workers, w, n, dim, r->capacity, entries, wide_at, narrow_at);
        palate_begin(&l.j);
        pool_run(live_worker, &l, w);
        for (int64_t i = 0; i < n * r->width; i++) r->scores[i] = -INFINITY, r->codes[i] = -1;
        if (l.failed || palate_finish(&l.j, s, l.workers, w, 0, n, r->scores, r->codes, r->width))
            found = NO_MEMORY;
    }
    free(memory);
    return found;
}

#endif
