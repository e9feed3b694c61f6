/* A batch of queries on processors that multiply tiles of bfloat16 (Intel AMX).
 *
 * Rounding a row to bfloat16 leaves a residual that is measured, so that with x = x' + r and
 * q = q' + t a product errs by at most |q| |r| + |t| |x'|, beside what float32 sums err.
 */
#ifndef PALATE_TILES_H
#define PALATE_TILES_H

#include "gemm.h"

#if defined(__linux__) && defined(__x86_64__) &&                                   \
    ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILES                                                                                  \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile," \
                          "amx-bf16")))
#define INLINE_TILES static inline __attribute__((always_inline)) TILES

/* Compilers do not know that instructions on tiles read memory. */
#define STORES_END __asm__ volatile("" ::: "memory")

#define SIDE 16            /* rows of a tile; its columns are float32 */
#define STEP 32            /* bfloat16 numbers of a row in a tile */
#define TILE (SIDE * STEP) /* bfloat16 numbers of a tile */
#define BOTH (2 * SIDE)    /* items and queries that are scored together: two by two tiles */
#define GROUP 8            /* items of which the best is looked at for the first floors */
#define FEWEST_GROUPS 64   /* for the first floors: 512 items */
#define MOST_GROUPS 512
#define FIRST_BYTES (1 << 20) /* more groups than the fewest come from so many bytes, at most */
#define DOUBTFUL 32        /* one pair in so many: a catalogue that float32 tells apart faster */

enum { ASK_FOR_TILES = 0x1023, TILE_DATA = 18 }; /* arch_prctl: ARCH_REQ_XCOMP_PERM, XTILEDATA */

/* Whether this processor has tiles, and the system grants them: it is asked once for a process. */
int palate_has_tiles(void) {
    unsigned a, b, c, d;
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
          __builtin_cpu_supports("avx512dq")))
        return 0;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return 0; /* avx512_bf16 */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return 0;
    return !syscall(SYS_arch_prctl, ASK_FOR_TILES, TILE_DATA);
}

/* Sixteen numbers from number i on of those that `here` names, the others 0. */
INLINE_TILES __m512 load_sixteen(const void *x, int64_t i, const int dtype, __mmask16 here) {
    if (dtype == FLOAT32) return _mm512_maskz_loadu_ps(here, (const float *)x + i);
    const __m256i half = _mm256_maskz_loadu_epi16(here, (const uint16_t *)x + i);
    if (dtype == FLOAT16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Round a row to `steps` pieces of STEP numbers, `apart` numbers from one to the next; numbers too
   small for bfloat16 become 0, as in products. Returns the length of what is lost, rounded up. */
INLINE_TILES double round_row(const void *x, int64_t at, int64_t dim, const int dtype,
                                int64_t steps, uint16_t *out, int64_t apart) {
    __m512d sum = _mm512_setzero_pd();
    for (int64_t d = 0; d < steps * STEP; d += 16) {
        const int64_t left = dim - d;
        const __mmask16 here = left >= 16 ? 0xFFFF : left > 0 ? (1u << left) - 1 : 0;
        const __m512 v = load_sixteen(x, at + d, dtype, here);
        const __m256i short_v = (__m256i)_mm512_cvtneps_pbh(v);
        _mm256_store_si256((__m256i *)(out + d / STEP * apart + d % STEP), short_v);
        const __m512 back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(short_v), 16));
        const __m512 lost = _mm512_sub_ps(v, back); /* exact */
        const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(lost));
        const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(lost, 1));
        sum = _mm512_fmadd_pd(low, low, _mm512_fmadd_pd(high, high, sum));
    }
    return sqrt(_mm512_reduce_add_pd(sum)) * (1 + 1e-9);
}

/* Items as (group of SIDE, step, row, STEP); rows that fill the last groups are 0. Returns the
   largest length that is lost. */
INLINE_TILES double round_items(const segment *s, const int dtype, int64_t row, int64_t n,
                                  int64_t steps, uint16_t *out) {
    double most = 0.0;
    for (int64_t i = 0; i < (n + BOTH - 1) / BOTH * BOTH; i++) {
        uint16_t *to = out + i / SIDE * steps * TILE + i % SIDE * STEP;
        const double lost = round_row(s->vectors, (row + i) * s->dim, i < n ? s->dim : 0, dtype, steps, to, TILE);
        if (lost > most) most = lost;
    }
    return most;
}

/* Queries as (group of SIDE, step, pair, query, 2), and what each loses; the last group is filled
   with zeros. `row` has room for one query. */
TILES static void round_queries(const job *j, int64_t dim, int64_t steps, int64_t n_groups,
                                  uint16_t *row, uint16_t *out, double *lost) {
    for (int64_t q = 0; q < n_groups * SIDE; q++) {
        const int real = q < j->n_queries;
        const double rest = round_row(j->queries, q * dim, real ? dim : 0, FLOAT32, steps, row, STEP);
        if (real) lost[q] = rest;
        uint32_t *to = (uint32_t *)(out + q / SIDE * steps * TILE) + q % SIDE;
        for (int64_t pair = 0; pair < steps * STEP / 2; pair++)
            memcpy(to + pair * SIDE, row + 2 * pair, 4);
    }
}

/* Score BOTH items against BOTH queries: scores (BOTH, BOTH), a row an item. Tiles 0 to 3 are sums, 4
   and 5 items, 6 and 7 queries. */
TILES static void multiply(const uint16_t *items, const uint16_t *queries, int64_t steps,
                                 float *scores) {
    STORES_END;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t step = 0; step < steps; step++, items += TILE, queries += TILE) {
        _tile_loadd(4, items, 2 * STEP);
        _tile_loadd(6, queries, 2 * STEP);
        _tile_loadd(7, queries + steps * TILE, 2 * STEP);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, items + steps * TILE, 2 * STEP);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, scores, 4 * BOTH);
    _tile_stored(1, scores + SIDE, 4 * BOTH);
    _tile_stored(2, scores + SIDE * BOTH, 4 * BOTH);
    _tile_stored(3, scores + SIDE * BOTH + SIDE, 4 * BOTH);
}

/* Eight tiles of sixteen rows of 64 bytes, for this thread. */
TILES static void open_tiles(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } all __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) all.row_bytes[i] = 2 * STEP, all.rows[i] = SIDE;
    STORES_END;
    _tile_loadconfig(&all);
}

TILES static void close_tiles(void) { _tile_release(); }

/* Push what one item's row of scores found among SIDE queries; the cuts may rise while it does.
   Returns how many are there for the error alone. */
TILES static __attribute__((noinline)) int take_hits(worker *w, const job *j, const segment *s,
                                                     int64_t q0, unsigned hits, int64_t pos,
                                                     const float *scores, float bias) {
    int doubtful = 0;
    for (; hits; hits &= hits - 1) {
        const int i = __builtin_ctz(hits);
        const float score = scores[i] + bias, error = w->error[q0 + i];
        if (score <= w->cut[q0 + i]) continue;
        doubtful += score < w->floor[q0 + i];
        push(w, j, s, q0 + i, pos, score - error, score + error);
    }
    return doubtful;
}

/* Compare BOTH by BOTH scores with the cuts of queries q0 on; n items are real. Returns how many were
   taken for their error alone. */
INLINE_TILES int64_t take_square(worker *w, const job *j, const segment *s, int64_t q0, int64_t pos,
                                int64_t n, const float *scores) {
    int64_t doubtful = 0;
    for (int half = 0; half < 2 && q0 < j->n_queries; half++, q0 += SIDE, scores += SIDE) {
        const int64_t left = j->n_queries - q0;
        const __mmask16 real = left < SIDE ? (1u << left) - 1 : 0xFFFF;
        __m512 cut = _mm512_maskz_loadu_ps(real, w->cut + q0);
        for (int64_t i = 0; i < n && i < BOTH; i++) {
            const float bias = s->bias ? s->bias[pos + i] : 0.0f;
            const __m512 score = _mm512_add_ps(_mm512_load_ps(scores + i * BOTH), _mm512_set1_ps(bias));
            const __mmask16 hits = _mm512_mask_cmp_ps_mask(real, score, cut, _CMP_GT_OQ);
            if (!hits) continue;
            doubtful += take_hits(w, j, s, q0, hits, pos + i, scores + i * BOTH, bias);
            cut = _mm512_maskz_loadu_ps(real, w->cut + q0);
        }
    }
    return doubtful;
}

/* How many bytes of bfloat16 rows: whole groups. */
INLINE size_t rounded_bytes(int64_t rows, int64_t steps) {
    return (size_t)((rows + BOTH - 1) / BOTH * BOTH * steps * STEP * 2 + 64);
}

/* How many groups the first floors come from: four times as many as there are places, if there are so
   many and they are not too long. */
INLINE int64_t groups_for(const job *j, const segment *s, int64_t steps) {
    const int64_t room = FIRST_BYTES / (GROUP * (steps ? steps : 1) * STEP * 2);
    const int64_t most = room < MOST_GROUPS ? room : MOST_GROUPS;
    int64_t n = FEWEST_GROUPS;
    while (n < 4 * j->k && 2 * n <= most && 2 * n * GROUP <= s->n) n *= 2;
    return n;
}

/* Take the scores of excluded items away, of n items from row `at` on. `next` is where each query is in
   its list, and moves on. */
INLINE_TILES void hide_excluded(const job *j, const segment *s, int64_t q0, int64_t at, int64_t n,
                                int64_t *next, float *scores) {
    for (int64_t c = 0; c < BOTH && q0 + c < j->n_queries; c++) {
        const int64_t end = j->excluded_ptr[q0 + c + 1];
        for (; next[c] < end && j->excluded[next[c]] < s->start + at + n; next[c]++)
            scores[(j->excluded[next[c]] - s->start - at) * BOTH + c] = -INFINITY;
    }
}

/* Keep the largest of the columns of the first `n` rows of scores in `best`, a row a group. */
INLINE_TILES void note_groups(const float *scores, const float *bias, int64_t n, float *best) {
    for (int64_t g = 0; g < BOTH / GROUP; g++, best += BOTH) {
        __m512 left = _mm512_set1_ps(-INFINITY), right = left;
        for (int64_t i = g * GROUP; i < n && i < (g + 1) * GROUP; i++) {
            const __m512 more = _mm512_set1_ps(bias ? bias[i] : 0.0f);
            left = _mm512_max_ps(left, _mm512_add_ps(_mm512_load_ps(scores + i * BOTH), more));
            right = _mm512_max_ps(right, _mm512_add_ps(_mm512_load_ps(scores + i * BOTH + SIDE), more));
        }
        _mm512_store_ps(best, left);
        _mm512_store_ps(best + SIDE, right);
    }
}

/* The place-th largest of each of SIDE columns of `best`, by insertion into sorted columns. */
INLINE_TILES __m512 nth_largest(const float *best, int64_t n_groups, int64_t place) {
    __m512 top[MOST_GROUPS];
    for (int64_t i = 0; i < place; i++) top[i] = _mm512_set1_ps(-INFINITY);
    for (int64_t g = 0; g < n_groups; g++) {
        __m512 next = _mm512_load_ps(best + g * BOTH);
        for (int64_t i = 0; i < place; i++) {
            const __m512 larger = _mm512_max_ps(top[i], next);
            next = _mm512_min_ps(top[i], next);
            top[i] = larger;
        }
    }
    return top[place - 1];
}

/* How many of the items from row `at` on a query may not get, at most. */
INLINE int64_t excluded_among(const job *j, const segment *s, int64_t q, int64_t at, int64_t n) {
    if (!j->excluded_ptr || !s->codes) return 0; /* or their scores are hidden */
    return excluded_from(j, q, s->codes[at + n - 1] + 1) - excluded_from(j, q, s->codes[at]);
}

/* Before a worker's first block: floors from the best of groups of items. The k-th best of them, or
   one more for each item that may be excluded, has k items at least as good; an item that ties with
   it may come before those, so the floor lies below. `best` has room for the groups of BOTH queries. */
INLINE_TILES void first_floors(worker *w, const job *j, const segment *s, int64_t at, int64_t n,
                               int64_t n_groups, int64_t steps, const uint16_t *items,
                               const uint16_t *queries, float *best) {
    const int hidden = j->excluded_ptr && !s->codes;
    for (int64_t q0 = 0; q0 < j->n_queries; q0 += BOTH) {
        float scores[BOTH * BOTH] __attribute__((aligned(64)));
        int64_t next[BOTH];
        for (int64_t c = 0; hidden && c < BOTH && q0 + c < j->n_queries; c++)
            next[c] = excluded_from(j, q0 + c, s->start + at);
        for (int64_t i = 0; i < n_groups * GROUP; i += BOTH) {
            const int64_t here = i < n ? n - i : 0;
            if (here) multiply(items + i * steps * STEP, queries + q0 * steps * STEP, steps, scores);
            if (here && hidden) hide_excluded(j, s, q0, at + i, BOTH, next, scores);
            note_groups(scores, s->bias ? s->bias + at + i : NULL, here, best + i / GROUP * BOTH);
        }
        for (int64_t side = q0; side < q0 + BOTH && side < j->n_queries; side += SIDE) {
            int64_t place = 0;
            for (int64_t q = side; q < side + SIDE && q < j->n_queries; q++) {
                const int64_t needed = j->k + excluded_among(j, s, q, at, n);
                place = needed > place ? needed : place;
            }
            if (place > n_groups) continue;
            float found[SIDE] __attribute__((aligned(64)));
            _mm512_store_ps(found, nth_largest(best + side - q0, n_groups, place));
            for (int64_t q = side; q < side + SIDE && q < j->n_queries; q++) {
                const float floor = step_down(found[q - side] - w->error[q]);
                if (floor > w->floor[q]) w->floor[q] = floor;
            }
        }
    }
}

/* The largest norm among n rows from row `at` on. */
INLINE double norm_among(const segment *s, int64_t at, int64_t n) {
    double most = 0.0;
    for (int64_t b = at / NORM_BLOCK; b * NORM_BLOCK < at + n; b++)
        most = s->norms[b] > most ? s->norms[b] : most;
    return most;
}

INLINE_TILES int scan_tiles_of(worker *w, const job *j, const segment *s, const int dtype) {
    const int64_t steps = (s->dim + STEP - 1) / STEP, pairs = (j->n_queries + BOTH - 1) / BOTH;
    const int64_t n_groups = groups_for(j, s, steps), first = n_groups * GROUP;
    const int64_t room = j->block > first ? j->block : first;
    float *best = aligned_alloc(64, sizeof(float) * n_groups * BOTH);
    uint16_t *items = aligned_alloc(64, rounded_bytes(room, steps));
    uint16_t *queries = aligned_alloc(64, rounded_bytes(j->n_queries, steps));
    uint16_t *row = aligned_alloc(64, rounded_bytes(1, steps));
    double *lost = malloc(sizeof(double) * (j->n_queries + 1));
    const int ready = best && items && queries && row && lost;
    if (ready) round_queries(j, s->dim, steps, 2 * pairs, row, queries, lost);
    if (ready) open_tiles();
    int64_t turn = 0, at;
    int fresh = j->k <= n_groups && !j->allowed && w->floor[0] == -INFINITY;
    int64_t doubtful = 0;
    while (ready && !doubtful && (at = take_block(w, j, s, &turn)) < s->n) {
        if (fresh) {
            const int64_t n = s->n - at < first ? s->n - at : first;
            const rounding r = {lost, round_items(s, dtype, at, n, steps, items)};
            set_cuts(w, j, s->dim, norm_among(s, at, n), 0, &r);
            first_floors(w, j, s, at, n, n_groups, steps, items, queries, best);
            fresh = 0;
        }
        const int64_t n = s->n - at < j->block ? s->n - at : j->block;
        const rounding r = {lost, round_items(s, dtype, at, n, steps, items)};
        set_cuts(w, j, s->dim, s->norms[at / NORM_BLOCK], 0, &r);
        for (int64_t p = 0; p < pairs; p++)
            for (int64_t i = 0; i < n; i += BOTH) {
                float scores[BOTH * BOTH] __attribute__((aligned(64)));
                multiply(items + i * steps * STEP, queries + p * BOTH * steps * STEP, steps, scores);
                doubtful += take_square(w, j, s, p * BOTH, at + i, n - i, scores);
            }
        if (doubtful * DOUBTFUL < n * j->n_queries) doubtful = 0;
    }
    if (ready) close_tiles();
    free(best);
    free(items);
    free(queries);
    free(row);
    free(lost);
    /* Where many items are alike, the tighter bounds of float32 are the faster way. */
    return ready ? doubtful && scan_batch(w, j, s, dtype) : 1;
}

TILES static int scan_tiles(worker *w, const job *j, const segment *s) {
    if (s->dtype == FLOAT32) return scan_tiles_of(w, j, s, FLOAT32);
    if (s->dtype == FLOAT16) return scan_tiles_of(w, j, s, FLOAT16);
    return scan_tiles_of(w, j, s, BFLOAT16);
}

#else

int palate_has_tiles(void) { return 0; }
static int scan_tiles(worker *w, const job *j, const segment *s) { return 1; }

#endif
#endif
