/* The base of every kernel header: short names, unaligned loads, and the instruction-set level of this process.
 *
 * A level is a set of instructions: portable C, x86-64-v2 (SSE4.1; what everything is compiled for), v3 (AVX2) and v4 (AVX-512 with
 * VBMI2).  Code that exists once per level is written in a "body" header and compiled for each by levels.h; every level gives the
 * same bits.  ASYNCFLOW_CPU=portable|v2|v3|v4 forces one, for tests. */
#ifndef ASYNCFLOW_CPU_H
#define ASYNCFLOW_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__x86_64__)
#define AF_X86 1
#include <immintrin.h>
#else
#define AF_X86 0
#endif

#define AF_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define AF_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define AF_INLINE static inline __attribute__((always_inline))
#define AF_NOINLINE static __attribute__((noinline))

#if AF_X86
#define AF_TARGET_V3 __attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt,pclmul")))
#define AF_TARGET_V4 __attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt,pclmul,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2")))
#endif

enum { AF_PORTABLE = 0, AF_V2 = 2, AF_V3 = 3, AF_V4 = 4 };

AF_INLINE uint64_t af_load64(const void *from) {
    uint64_t word;
    memcpy(&word, from, 8);
    return word;
}

AF_INLINE uint64_t af_fold(uint64_t left, uint64_t right) {
    __uint128_t product = (__uint128_t)left * right;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

enum { AF_HUGE_FROM = 4 << 20 };

/* Asks for huge pages for a large array that is read at random places. */
static inline void af_want_huge(void *memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t page = 4096, start = ((uintptr_t)memory + page - 1) & ~(page - 1);
    if (memory == NULL || bytes < AF_HUGE_FROM) return;
    madvise((void *)start, ((uintptr_t)memory + bytes - start) & ~(page - 1), MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

/* realloc of a large array, into huge pages: realloc itself would copy into small pages before huge pages can be asked for. */
static inline void *af_resized(void *memory, size_t held, size_t bytes) {
    if (bytes < AF_HUGE_FROM) return realloc(memory, bytes);
    void *moved;
    if (posix_memalign(&moved, 2 << 20, bytes) != 0) return NULL;
    af_want_huge(moved, bytes);
    if (memory != NULL) memcpy(moved, memory, held < bytes ? held : bytes);
    free(memory);
    return moved;
}

/* 1 where two bytes are equal, else 0, by arithmetic: a compare into a register that gcc reuses made every loop iteration wait for the
 * one before it. */
AF_INLINE uint32_t af_equal(uint32_t left, uint32_t right) { return ((left ^ right) - 1) >> 31; }

/* The level to use; -1: ASYNCFLOW_CPU names no level; -2: ASYNCFLOW_CPU names a level that this machine does not have. */
static inline int af_cpu_level(void) {
    int best = AF_PORTABLE;
#if AF_X86
    __builtin_cpu_init();
    best = AF_V2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("pclmul")) {
        best = AF_V3;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi2"))
            best = AF_V4;
    }
#endif
    const char *wanted = getenv("ASYNCFLOW_CPU");
    if (wanted == NULL || *wanted == '\0') return best;
    int level = strcmp(wanted, "portable") == 0 ? AF_PORTABLE
                : strcmp(wanted, "v2") == 0     ? AF_V2
                : strcmp(wanted, "v3") == 0     ? AF_V3
                : strcmp(wanted, "v4") == 0     ? AF_V4
                                                : -1;
    return level > best ? -2 : level;
}

#endif
