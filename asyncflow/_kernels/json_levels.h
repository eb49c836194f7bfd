/* What json.pyx calls.  `level`: af_cpu_level(). */
#ifndef ASYNCFLOW_JSON_LEVELS_H
#define ASYNCFLOW_JSON_LEVELS_H

#include "cpu.h"
#include "json_plan.h"

/* How many lines the block has (a last one without its newline counts), and whether all of it is ASCII. */
void json_survey(int level, const uint8_t *block, size_t size, uint64_t *lines, int *ascii);

/* Decodes a block; false where memory ran out. */
bool json_decode(int level, json_job *job);

#endif
