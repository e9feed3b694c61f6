/* Each query's list of items that may still enter: bounded, pruned by bounds, then by scores. */
#ifndef PALATE_CANDIDATES_H
#define PALATE_CANDIDATES_H

#include "canonical.h"

INLINE int higher_lo(const entry *a, const entry *b) { return a->lo > b->lo; }

INLINE int better(const entry *a, const entry *b) {
    return a->score > b->score || (a->score == b->score && a->code < b->code);
}

INLINE void swap_entries(entry *a, entry *b) {
    const entry t = *a;
    *a = *b;
    *b = t;
}

/* Move the k first entries by `first` to the front (Hoare's selection, middle pivot). */
INLINE void select_first(entry *e, int64_t n, int64_t k,
                         int (*first)(const entry *, const entry *)) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const entry pivot = e[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (first(&e[i], &pivot)) i++;
            while (first(&pivot, &e[j])) j--;
            if (i <= j) swap_entries(&e[i++], &e[j--]);
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else break;
    }
}

AVX2 static void select_lo(entry *e, int64_t n, int64_t k) { select_first(e, n, k, higher_lo); }
AVX2 static void select_better(entry *e, int64_t n, int64_t k) { select_first(e, n, k, better); }

/* Give an entry its canonical score; its bounds close around it. */
AVX2 static void settle(entry *e, double *scratch, const job *j, const segment *s, int64_t q) {
    e->score = canonical(scratch, j->queries + q * s->dim, s, e->pos, j->metric);
    e->pos = -1;
    if (j->metric != EUCLIDEAN) {
        e->hi = e->lo = e->score;
        return;
    }
    const double w = (double)e->score * e->score, slack = 1e-6 * (w + j->squares[q]);
    e->hi = (float)((j->squares[q] - w) / 2 + slack);
    e->lo = (float)((j->squares[q] - w) / 2 - slack);
}

/* Drop what cannot enter: first by bounds; if that leaves too many, by canonical scores. Returns
   the k-th largest lower bound, or -inf while there are fewer than k. */
AVX2 static float prune(entry *e, int64_t *count, int64_t keep, double *scratch, const job *j,
                        const segment *s, int64_t q) {
    const int64_t k = j->k, n = *count;
    if (n < k) return -INFINITY;
    select_lo(e, n, k);
    float floor = e[0].lo;
    for (int64_t i = 1; i < k; i++) floor = e[i].lo < floor ? e[i].lo : floor;
    int64_t left = k;
    for (int64_t i = k; i < n; i++)
        if (e[i].hi >= floor) e[left++] = e[i];
    *count = left;
    if (left <= keep) return floor;
    for (int64_t i = 0; i < left; i++)
        if (e[i].pos >= 0) settle(&e[i], scratch, j, s, q);
    select_better(e, left, k);
    floor = e[0].lo;
    for (int64_t i = 1; i < k; i++) floor = e[i].lo < floor ? e[i].lo : floor;
    *count = k;
    return floor;
}

/* Where the items of query q from code `first` on are in its sorted list of excluded ones. */
INLINE int64_t excluded_from(const job *j, int64_t q, int64_t first) {
    int64_t low = j->excluded_ptr[q], high = j->excluded_ptr[q + 1];
    while (low < high) {
        const int64_t mid = low + (high - low) / 2;
        if (j->excluded[mid] < first) low = mid + 1;
        else high = mid;
    }
    return low;
}

INLINE int is_excluded(const job *j, int64_t q, int64_t code) {
    if (j->allowed && !j->allowed[code]) return 1;
    if (!j->excluded_ptr) return 0;
    const int64_t at = excluded_from(j, q, code);
    return at < j->excluded_ptr[q + 1] && j->excluded[at] == code;
}

/* An item whose upper bound only reaches the floor comes after k that are as good, and may be
   dropped; a worker that went back in the catalogue cannot know, and keeps it. */
INLINE void raise_floor(worker *w, int64_t q, float floor) {
    if (w->went_back) floor = step_down(floor);
    if (floor > w->floor[q]) w->floor[q] = floor;
}

/* Add an item whose screened score lies in [lo, hi], unless earlier items reach hi. Raises the
   query's cut when the list fills. */
AVX2 static __attribute__((noinline)) void push(worker *w, const job *j, const segment *s, int64_t q,
                                                int64_t pos, float lo, float hi) {
    if (hi <= w->floor[q]) return;
    const int64_t code = s->codes ? s->codes[pos] : s->start + pos;
    if (is_excluded(j, q, code)) return;
    entry *e = w->entries + q * j->capacity;
    e[w->counts[q]++] = (entry){hi, lo, 0.0f, (int32_t)pos, code};
    if (w->counts[q] < j->capacity) return;
    const float floor = prune(e, &w->counts[q], j->k + (j->capacity - j->k) / 2, w->scratch, j, s, q);
    raise_floor(w, q, floor);
    volatile float *shared = &j->shared[q]; /* a lost race only leaves a looser bound */
    if (floor > *shared) *shared = floor;
    const float cut = step_down(w->floor[q] - w->margin[q]);
    if (cut > w->cut[q]) w->cut[q] = cut;
}

/* What rounding vectors before they are multiplied loses: a length for each query, and the largest
   of a block of items. */
typedef struct {
    const double *queries;
    double items;
} rounding;

/* Set every query's error bound and cut for a block of items with norms up to x. The cut is for
   screened scores, or, where `upper` is set, for their upper bounds. */
AVX2 static void set_cuts(worker *w, const job *j, int64_t dim, double x, int upper,
                          const rounding *lost) {
    const double terms = (double)(dim + 8), u = 0x1p-24;
    const double gamma = 1.01 * terms * u / (1 - terms * u), tiny = terms * 0x1p-120;
    for (int64_t q = 0; q < j->n_queries; q++) {
        const double y = j->norms[q] * (1 + 1e-6);
        double size = y * x;
        if (j->metric == EUCLIDEAN) size += x * x + (y + x) * (y + x) / 4;
        /* Products with a zero query are exact: without an error, ties with them stay out. */
        const int exact = j->metric == DOT && y == 0.0;
        double most = gamma * size + tiny;
        if (lost) { /* rounded vectors are longer by 2^-8 at most */
            const double t = lost->queries[q], r = lost->items;
            most = 1.01 * gamma * size + tiny + (y * r + t * (x + r)) * (1 + 1e-6);
        }
        const float error = exact ? 0.0f : (float)(most * (1 + 1e-6));
        /* Another worker's items may come later in the catalogue: ties with its bound stay in. */
        const float other = step_down(*(volatile float *)&j->shared[q]);
        const float floor = w->floor[q] > other ? w->floor[q] : other;
        w->error[q] = error;
        w->margin[q] = upper ? 0.0f : error;
        w->cut[q] = step_down(floor - w->margin[q]);
    }
}

/* Take a block that nobody has taken, and return its first row, or s->n where none is left. Every
   worker has a share of its own, the same in each search, so that its core's cache knows it; then
   it helps the next one. `turn` counts the shares that it has emptied, from 0. */
INLINE int64_t take_block(worker *w, const job *j, const segment *s, int64_t *turn) {
    const int64_t n_blocks = (s->n + j->block - 1) / j->block, n = j->n_workers;
    for (; *turn < n; ++*turn) {
        const int64_t i = (w->index + *turn) % n, low = n_blocks * i / n, high = n_blocks * (i + 1) / n;
        const int64_t at = low + __atomic_fetch_add(&j->next[i * COUNTER_GAP], 1, __ATOMIC_RELAXED);
        if (at >= high) continue;
        if (i < w->index && !w->went_back) {
            w->went_back = 1;
            for (int64_t q = 0; q < j->n_queries; q++) w->floor[q] = step_down(w->floor[q]);
        }
        return at * j->block;
    }
    return s->n;
}

#endif
