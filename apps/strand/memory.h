/* memory.h - how much memory a computation may take when --memory does not say.
 */
#ifndef STRAND_APPS_MEMORY_H
#define STRAND_APPS_MEMORY_H

#include <stdint.h>

/* Bytes that can be used now without swapping: what the system has available, or what is left below the limit of a cgroup
 * when that is less. 0 when neither is known. */
uint64_t memory_available(void);
/* Does the system give large pages to those who ask? */
int memory_large_pages(void);

#endif
