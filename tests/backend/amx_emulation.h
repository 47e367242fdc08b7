// AMX on CPUs without it: compiled instructions are carried out in plain C when the CPU refuses
// them, after the pseudo-code of Intel's SDM, volume 2 (LDTILECFG, TILERELEASE, TILEZERO,
// TILELOADD, TILESTORED, TDPBSSD, TDPBF16PS). What would fault on a CPU that has them, a
// configuration or shapes that do not go together, or any other unknown instruction, ends the
// program. Each thread has registers of its own.
#ifndef TESTS_BACKEND_AMX_EMULATION_H
#define TESTS_BACKEND_AMX_EMULATION_H

#include <stdbool.h>

// For the whole process, which must run on a CPU without AMX; takes SIGILL.
void amx_emulation_install(void);

// Whether this thread has configured registers and not released them.
bool amx_emulation_holds_registers(void);

#endif
