/* The string look-up of the groups kernel, once per instruction-set level. */
#include "groups/strings.h"

#define AF_BODY "groups/block.h"
#include "base/levels.h"
