/* The top-k kernel of palate: plain C without a Python interface, called through ctypes.
 *
 * A worker (a thread of the caller) takes blocks of items until none are left, screens them with
 * float32 or int8 products, and keeps per query the few that may still enter. palate_finish joins
 * the workers' lists and decides by canonical scores.
 */
#include "common.h"

#include "candidates.h"
#include "canonical.h"
#include "gemm.h"
#include "quantize.h"
#include "rows.h"
#include "tiles.h"

/* Whether this processor can run the kernel. */
int palate_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

/* Divide one allocation of each width among the workers, their lists empty: `wide` holds a worker's
   counts and float64 scratch, then the counters; `narrow` its floors, cuts, errors and margins, then
   the shared floors. */
void palate_place(worker *w, int64_t n_workers, int64_t n_queries, int64_t dim, int64_t capacity,
                  entry *entries, int64_t *wide, float *narrow) {
    for (int64_t i = 0; i < n_workers; i++) {
        w[i] = (worker){.entries = entries + i * n_queries * capacity, .counts = wide, .index = i};
        w[i].scratch = (double *)(wide + n_queries);
        memset(wide, 0, sizeof(int64_t) * n_queries);
        wide += n_queries + dim + 1;
        float **parts[] = {&w[i].floor, &w[i].cut, &w[i].error, &w[i].margin};
        for (int p = 0; p < 4; p++, narrow += n_queries) *parts[p] = narrow;
        for (int64_t q = 0; q < n_queries; q++) w[i].floor[q] = -INFINITY;
    }
    for (int64_t q = 0; q < n_queries; q++) narrow[q] = -INFINITY;
}

/* Score everything that a worker holds, so that the segment may go. */
AVX2 static void settle_all(worker *w, const job *j, const segment *s) {
    for (int64_t q = 0; q < j->n_queries; q++) {
        entry *e = w->entries + q * j->capacity;
        const float floor = prune(e, &w->counts[q], j->capacity, w->scratch, j, s, q);
        raise_floor(w, q, floor);
        for (int64_t i = 0; i < w->counts[q]; i++)
            if (e[i].pos >= 0) settle(&e[i], w->scratch, j, s, q);
    }
}

/* Before a segment is scanned: nothing of it is taken. */
void palate_begin(const job *j) {
    for (int64_t i = 0; i < j->n_workers; i++) j->next[i * COUNTER_GAP] = 0;
}

/* Take blocks of a segment until none are left. method: 0 a batch, 1 row by row, 2 int8 codes, 3 a
   batch in tiles, where palate_has_tiles.
   Returns 0, or 1 where memory ran out. */
AVX2 int palate_scan(const job *j, const segment *s, worker *w, int64_t method) {
    int failed = 0;
    if (method == 2) failed = scan_codes(w, j, s);
    else if (method == 3) failed = scan_tiles(w, j, s);
    else if (method == 1 && s->dtype == FLOAT32) failed = scan_rows(w, j, s, FLOAT32);
    else if (method == 1 && s->dtype == FLOAT16) failed = scan_rows(w, j, s, FLOAT16);
    else if (method == 1) failed = scan_rows(w, j, s, BFLOAT16);
    else if (s->dtype == FLOAT32) failed = scan_batch(w, j, s, FLOAT32);
    else if (s->dtype == FLOAT16) failed = scan_batch(w, j, s, FLOAT16);
    else failed = scan_batch(w, j, s, BFLOAT16);
    if (!failed && j->settle) settle_all(w, j, s);
    return failed;
}

static int compare(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->code < y->code ? -1 : x->code > y->code;
}

/* Ask for the rows of a list before they are scored one by one. */
AVX2 static void fetch_rows(const entry *e, int64_t n, const segment *s) {
    const int64_t bytes = s->dim * (s->dtype == FLOAT32 ? 4 : 2);
    for (int64_t i = 0; i < n; i++)
        for (int64_t b = 0; e[i].pos >= 0 && b < bytes && b < 1024; b += 64)
            _mm_prefetch((const char *)s->vectors + e[i].pos * bytes + b, _MM_HINT_T0);
}

/* Join the workers' lists of queries first to last, and write `width` places a query. */
AVX2 int palate_finish(const job *j, const segment *s, const worker *workers, int64_t n_workers,
                       int64_t first, int64_t last, float *scores, int64_t *codes, int64_t width) {
    entry *all = malloc(sizeof(entry) * n_workers * j->capacity);
    double *scratch = malloc(sizeof(double) * (s->dim + 1));
    for (int64_t q = first; all && scratch && q < last; q++) {
        int64_t n = 0;
        for (int64_t i = 0; i < n_workers; n += workers[i++].counts[q])
            memcpy(all + n, workers[i].entries + q * j->capacity, sizeof(entry) * workers[i].counts[q]);
        prune(all, &n, n, scratch, j, s, q);
        fetch_rows(all, n, s);
        for (int64_t i = 0; i < n; i++)
            if (all[i].pos >= 0) settle(&all[i], scratch, j, s, q);
        const int64_t found = n < j->k ? n : j->k;
        if (n > found) select_better(all, n, found);
        qsort(all, found, sizeof(entry), compare);
        for (int64_t i = 0; i < found; i++) {
            scores[q * width + i] = all[i].score;
            codes[q * width + i] = all[i].code;
        }
    }
    const int failed = !(all && scratch);
    free(all);
    free(scratch);
    return failed;
}

#include "live.h"
