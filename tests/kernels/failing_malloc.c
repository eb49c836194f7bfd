/* To be preloaded: of the allocations that compiled kernels make, the n-th after arm(n) fails (and with `more` all after it). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

static long count, at;
static int all_after;

void arm(long n, int more) { count = 0, at = n, all_after = more; }
long counted(void) { return count; }

static int fails(void *caller) {
    Dl_info info;
    if (at == 0 || !dladdr(caller, &info) || info.dli_fname == NULL || !strstr(info.dli_fname, "/_kernels/")) return 0;
    count++;
    return count == at || (all_after && count > at);
}

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

#define FAIL_OR(made) (fails(__builtin_return_address(0)) ? (errno = ENOMEM, (void *)NULL) : (made))
void *malloc(size_t size) { return FAIL_OR(__libc_malloc(size)); }
void *calloc(size_t items, size_t size) { return FAIL_OR(__libc_calloc(items, size)); }
void *realloc(void *old, size_t size) { return FAIL_OR(__libc_realloc(old, size)); }
int posix_memalign(void **memory, size_t alignment, size_t size) {
    return (*memory = FAIL_OR(__libc_memalign(alignment, size))) == NULL ? ENOMEM : 0;
}
