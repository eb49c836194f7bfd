/* Compiles one body header once per instruction-set level.
 *
 *     #define AF_BODY "csv/level.h"
 *     #include "base/levels.h"
 *
 * The body (and the level headers that it includes: columns.h, utf8.h) has no include guard.  While it is read, AF_LEVEL is 0, 2, 3 or 4;
 * AF_AT(name) is the name with the level's ending (name_portable, name_v2, name_v3, name_v4); AF_LEVEL_INLINE and AF_LEVEL_FUNCTION
 * begin the definition of a function that may use the level's instructions; AF_EXPORT begins one that other files may call. */
#include "base/cpu.h"

#define AF_LEVEL_INLINE AF_TARGET static inline __attribute__((always_inline))
#define AF_LEVEL_FUNCTION AF_TARGET static __attribute__((noinline))
#define AF_EXPORT AF_TARGET __attribute__((visibility("hidden")))

#define AF_LEVEL 0
#define AF_AT(name) name##_portable
#define AF_TARGET
#include AF_BODY
#undef AF_LEVEL
#undef AF_AT
#undef AF_TARGET

#if AF_X86

#define AF_LEVEL 2
#define AF_AT(name) name##_v2
#define AF_TARGET
#include AF_BODY
#undef AF_LEVEL
#undef AF_AT
#undef AF_TARGET

#define AF_LEVEL 3
#define AF_AT(name) name##_v3
#define AF_TARGET AF_TARGET_V3
#include AF_BODY
#undef AF_LEVEL
#undef AF_AT
#undef AF_TARGET

#define AF_LEVEL 4
#define AF_AT(name) name##_v4
#define AF_TARGET AF_TARGET_V4
#include AF_BODY
#undef AF_LEVEL
#undef AF_AT
#undef AF_TARGET

#endif
#undef AF_LEVEL_INLINE
#undef AF_LEVEL_FUNCTION
#undef AF_EXPORT
#undef AF_BODY
