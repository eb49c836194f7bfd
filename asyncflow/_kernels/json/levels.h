/* The functions that json/compiled.pyx calls for each block, in this order.  `level`: af_cpu_level(). */
#ifndef ASYNCFLOW_JSON_LEVELS_H
#define ASYNCFLOW_JSON_LEVELS_H

#include "base/cpu.h"
#include "json/plan.h"

/* Takes working memory for a job and finds the block's lines; false where memory ran out. */
bool json_survey(int level, json_job *job);

/* Decodes the surveyed block; false where memory ran out. */
bool json_decode(int level, json_job *job);

/* Frees what the job holds, also after a failed survey or decode. */
void json_release(json_job *job);

#endif
