/* The string look-up of groups.pyx, once per instruction-set level. */
#include "groups_strings.h"

#define AF_BODY "groups_block.h"
#include "levels.h"
