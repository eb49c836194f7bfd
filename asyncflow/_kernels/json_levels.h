/* What json.pyx calls.  `level`: af_cpu_level(). */
#ifndef ASYNCFLOW_JSON_LEVELS_H
#define ASYNCFLOW_JSON_LEVELS_H

#include "cpu.h"
#include "json_plan.h"

/* Finds a block's lines; `lines` starts as zeros.  False where memory ran out. */
bool json_survey(int level, const uint8_t *block, size_t size, json_lines *lines);

/* Decodes a block; false where memory ran out. */
bool json_decode(int level, json_job *job);

#endif
