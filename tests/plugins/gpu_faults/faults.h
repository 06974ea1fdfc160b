/* faults.h - makes calls of a GPU's API fail. vulkan.c and opencl.c stand in front of the loaders' functions that the
 * plugins call: a program that links them with its symbols exported, or a library that is preloaded (environment.c), is found
 * before the loader. What is made and given back is counted. */
#ifndef STRAND_TESTS_GPU_FAULTS_H
#define STRAND_TESTS_GPU_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* The nth call from now on (1: the next) whose name is `name`, or any when that is "*", fails with `code`; with `on` every
 * later one fails too, whatever its name. NULL: none. */
void fault_set(const char *name, long nth, int code, bool on);
/* Objects that were made and not given back. */
long fault_live(void);
/* Calls that could have failed since fault_set. */
long fault_calls(void);

/* For the stand-ins: is this call to fail, and with what? */
bool fault_now(const char *name, int *code);
void fault_count(long objects);
/* The function of that name in the loader, or the process ends: there is no way to go on. */
void *fault_real(const char *library, const char *name);

/* The largest allocation that the device says it gives; 0: what it truly says. */
extern uint64_t fault_largest;
/* The memory that the device says it has; 0: what it truly says. */
extern uint64_t fault_memory;
/* A driver without devices. */
extern bool fault_no_device;
/* What a device says of halves below 2^-14 (Vulkan): what it truly says, that it keeps them where a module asks, or that it is
 * hardware that may lose them. */
enum { FAULT_HALVES_AS_IS, FAULT_HALVES_KEPT, FAULT_HALVES_LOST };
extern int fault_tiny_halves;
/* Modules that read halves, and those that ask, rightly, for tiny ones to be kept (Vulkan). */
extern long fault_halves, fault_keeping;
/* A driver that takes no module that uses subgroups or 16- or 8-bit storage, whatever it says that it has (Vulkan). */
extern bool fault_plain;
/* Dispatches and copies that were recorded, and barriers between them (Vulkan). */
extern long fault_commands, fault_barriers;

#endif
