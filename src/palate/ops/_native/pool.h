/* A few waiting threads inside the kernel: a live request reaches them without the interpreter. */
#ifndef PALATE_POOL_H
#define PALATE_POOL_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "common.h"

typedef void (*pool_work)(void *argument, int64_t worker);

#define POOL_MOST 64
#define TICKET ((uint64_t)1 << 32)
#define SPINS 2000 /* looks at a worker that is about to end, before the core is given away */

/* One piece of work at a time. `state` holds the workers still wanted (high half) and those that
   run (low half), so that wanting, starting and calling off are one atomic step each. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t wanted;
    uint64_t state;
    pool_work work;
    void *argument;
    int64_t n_workers, n_threads;
    int busy, follows_forks;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wanted = PTHREAD_COND_INITIALIZER};

static void *pool_serve(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&pool.mutex);
        while (__atomic_load_n(&pool.state, __ATOMIC_ACQUIRE) < TICKET)
            pthread_cond_wait(&pool.wanted, &pool.mutex);
        pthread_mutex_unlock(&pool.mutex);
        uint64_t seen = __atomic_load_n(&pool.state, __ATOMIC_ACQUIRE);
        while (seen >= TICKET) {
            if (!__atomic_compare_exchange_n(&pool.state, &seen, seen - TICKET + 1, 0,
                                             __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
                continue;
            pool.work(pool.argument, pool.n_workers - (int64_t)(seen >> 32));
            seen = __atomic_sub_fetch(&pool.state, 1, __ATOMIC_ACQ_REL);
        }
    }
    return NULL;
}

/* A forked child has none of the threads, and maybe half of a change. */
static void pool_forget(void) {
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.wanted, NULL);
    pool.state = 0;
    pool.n_threads = 0;
    pool.busy = 0;
}

/* Start threads that are missing; they take no signals, which are the interpreter's. */
static void pool_grow(int64_t n_threads) {
    if (!pool.follows_forks) pool.follows_forks = !pthread_atfork(NULL, NULL, pool_forget);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; pool.follows_forks && pool.n_threads < n_threads; pool.n_threads++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, pool_serve, NULL)) break;
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Call work(argument, 0) here and, where cores are free, work(argument, 1 ... n_workers - 1) beside
   it. The workers share what there is to do: one that comes late is called off, and where other
   requests have the threads, worker 0 does everything. */
static void pool_run(pool_work work, void *argument, int64_t n_workers) {
    if (n_workers > POOL_MOST) n_workers = POOL_MOST;
    if (n_workers < 2 || __atomic_exchange_n(&pool.busy, 1, __ATOMIC_ACQUIRE)) {
        work(argument, 0);
        return;
    }
    if (pool.n_threads < n_workers - 1) pool_grow(n_workers - 1);
    pool.work = work;
    pool.argument = argument;
    pool.n_workers = n_workers;
    pthread_mutex_lock(&pool.mutex);
    __atomic_store_n(&pool.state, TICKET * (uint64_t)(n_workers - 1), __ATOMIC_RELEASE);
    if (n_workers == 2) pthread_cond_signal(&pool.wanted);
    else pthread_cond_broadcast(&pool.wanted);
    pthread_mutex_unlock(&pool.mutex);
    work(argument, 0);
    __atomic_fetch_and(&pool.state, TICKET - 1, __ATOMIC_ACQ_REL);
    for (int64_t looks = 0; __atomic_load_n(&pool.state, __ATOMIC_ACQUIRE); looks++)
        if (looks < SPINS) _mm_pause();
        else sched_yield();
    __atomic_store_n(&pool.busy, 0, __ATOMIC_RELEASE);
}

#endif
