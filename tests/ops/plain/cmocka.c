/* cmocka.c - see cmocka.h. */
#include "cmocka.h"

jmp_buf plain_leave;
