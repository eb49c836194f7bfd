/* The string look-up of groups.pyx, once per instruction-set level. */
#include "groups/strings.h"

#define AF_BODY "groups/block.h"
#include "base/levels.h"
