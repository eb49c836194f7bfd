/* The string look-up of the groups kernel, once per instruction-set level. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* mremap */
#endif
#include "groups/strings.h"

#define AF_BODY "groups/block.h"
#include "base/levels.h"
