#include "tests/backend/amx_emulation.h"

#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "common/status.h"
#include "worker/backend/cpu/amx_tile.h"

struct tiles {
    struct amx_config config;
    uint8_t data[AMX_TILES][AMX_ROWS_MAX][AMX_ROW_BYTES_MAX];
};

static _Thread_local struct tiles tiles;

static int rows_of(int tile) {
    ASSERT(tiles.config.palette == AMX_PALETTE && tile >= 0 && tile < AMX_TILES);
    ASSERT(tiles.config.rows[tile] > 0);
    return tiles.config.rows[tile];
}

static int row_bytes_of(int tile) {
    ASSERT(rows_of(tile) > 0);
    return tiles.config.row_bytes[tile];
}

static void configure(const struct amx_config *config) {
    ASSERT(config->palette == AMX_PALETTE && config->start_row == 0);
    for (size_t i = 0; i < sizeof(config->reserved); ++i) {
        ASSERT(config->reserved[i] == 0);
    }
    for (int tile = 0; tile < 16; ++tile) {
        int rows = config->rows[tile], row_bytes = config->row_bytes[tile];
        ASSERT(rows <= AMX_ROWS_MAX && row_bytes <= AMX_ROW_BYTES_MAX);
        ASSERT((rows == 0) == (row_bytes == 0) && (tile < AMX_TILES || rows == 0));
    }
    memset(&tiles, 0, sizeof(tiles));
    tiles.config = *config;
}

static void release(void) {
    memset(&tiles, 0, sizeof(tiles));
}

static void clear(int tile) {
    ASSERT(rows_of(tile) > 0);
    memset(tiles.data[tile], 0, sizeof(tiles.data[tile]));
}

static void load(int tile, const char *from, size_t stride) {
    size_t row_bytes = (size_t)row_bytes_of(tile);
    memset(tiles.data[tile], 0, sizeof(tiles.data[tile]));
    for (int row = 0; row < rows_of(tile); ++row) {
        memcpy(tiles.data[tile][row], from + (size_t)row * stride, row_bytes);
    }
}

static void store(int tile, char *to, size_t stride) {
    size_t row_bytes = (size_t)row_bytes_of(tile);
    for (int row = 0; row < rows_of(tile); ++row) {
        memcpy(to + (size_t)row * stride, tiles.data[tile][row], row_bytes);
    }
}

// C[M][N] += A[M][K] B[K][N], elements of 4 bytes.
static void check_product(int sums, int a, int b) {
    ASSERT(sums != a && sums != b && a != b);
    ASSERT(rows_of(sums) == rows_of(a) && row_bytes_of(sums) == row_bytes_of(b));
    ASSERT(row_bytes_of(a) == 4 * rows_of(b) && row_bytes_of(b) % 4 == 0);
}

static void dot_int8(int sums, int a, int b) {
    check_product(sums, a, b);
    for (int m = 0; m < rows_of(sums); ++m) {
        int32_t row[AMX_ROW_BYTES_MAX / 4];
        memcpy(row, tiles.data[sums][m], sizeof(row));
        for (int k = 0; k < rows_of(b); ++k) {
            const int8_t *x = (const int8_t *)&tiles.data[a][m][4 * k];
            const int8_t *w = (const int8_t *)tiles.data[b][k];
            for (int n = 0; n < row_bytes_of(sums) / 4; ++n) {
                for (int i = 0; i < 4; ++i) {
                    row[n] += x[i] * w[4 * n + i];
                }
            }
        }
        memcpy(tiles.data[sums][m], row, sizeof(row));
    }
}

// Numbers below the smallest normal one are zeros, as operands and as results.
static float flush(float value) {
    return fabsf(value) < 0x1p-126f ? copysignf(0, value) : value;
}

static float from_bf16(const uint8_t *bytes) {
    uint32_t bits = (uint32_t)bytes[1] << 24 | (uint32_t)bytes[0] << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return flush(value);
}

static void dot_bf16(int sums, int a, int b) {
    check_product(sums, a, b);
    for (int m = 0; m < rows_of(sums); ++m) {
        float row[AMX_ROW_BYTES_MAX / 4], pairs[AMX_ROW_BYTES_MAX / 2] = {0};
        memcpy(row, tiles.data[sums][m], sizeof(row));
        for (int k = 0; k < rows_of(b); ++k) {
            for (int i = 0; i < 2; ++i) {
                float x = from_bf16(&tiles.data[a][m][4 * k + 2 * i]);
                for (int n = 0; n < row_bytes_of(sums) / 4; ++n) {
                    float w = from_bf16(&tiles.data[b][k][4 * n + 2 * i]);
                    pairs[2 * n + i] = flush(fmaf(x, w, pairs[2 * n + i]));
                }
            }
        }
        for (int n = 0; n < row_bytes_of(sums) / 4; ++n) {
            row[n] = flush(flush(row[n]) + flush(pairs[2 * n] + pairs[2 * n + 1]));
        }
        memcpy(tiles.data[sums][m], row, sizeof(row));
    }
}

// One instruction's bytes, as far as they are the same for all (Intel SDM, volume 2, section 2.3):
// a VEX prefix of three bytes, the opcode, ModRM and what follows it.
struct instruction {
    const uint8_t *at;
    int prefix;    // VEX.pp
    int operand;   // VEX.vvvv: a register
    int mode;      // ModRM.mod
    int reg;       // ModRM.reg
    int rm;        // ModRM.rm
    char *address; // of memory, without the index
    size_t stride; // the index, scaled; 0: none
    size_t n_bytes;
};

static uint64_t general_register(const ucontext_t *context, int number) {
    static const int places[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};
    return (uint64_t)context->uc_mcontext.gregs[places[number]];
}

// Finds what ModRM, SIB and the displacement name (section 2.1.5).
static void decode_memory(const ucontext_t *context, struct instruction *instruction) {
    const uint8_t *bytes = instruction->at;
    bool has_base = true;
    int base = instruction->rm;
    uint64_t address = 0;
    size_t n = 5;
    if (base == 4) {
        int sib = bytes[n++], index = (sib >> 3 & 7) | (bytes[1] & 0x40 ? 0 : 8);
        base = sib & 7;
        has_base = base != 5 || instruction->mode != 0;
        instruction->stride = index == 4 ? 0 : general_register(context, index) << (sib >> 6);
    } else {
        ASSERT(base != 5 || instruction->mode != 0); // relative to the instruction: no one does
    }
    if (has_base) {
        address = general_register(context, base | (bytes[1] & 0x20 ? 0 : 8));
    }
    if (instruction->mode == 1) {
        address += (uint64_t)(int64_t)(int8_t)bytes[n++];
    } else if (instruction->mode == 2 || !has_base) {
        int32_t displacement;
        memcpy(&displacement, bytes + n, sizeof(displacement));
        address += (uint64_t)(int64_t)displacement;
        n += sizeof(displacement);
    }
    instruction->address = (char *)(uintptr_t)address;
    instruction->n_bytes = n;
}

static struct instruction decode(const ucontext_t *context) {
    const uint8_t *bytes = (const uint8_t *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    struct instruction instruction = {
        .at = bytes,
        .prefix = bytes[2] & 3,
        .operand = ~bytes[2] >> 3 & 15,
        .mode = bytes[4] >> 6,
        .reg = bytes[4] >> 3 & 7,
        .rm = bytes[4] & 7,
        .n_bytes = 5,
    };
    // Map 0F38, W0, 128 bits, no register past the seventh.
    ASSERT(bytes[0] == 0xc4 && (bytes[1] & 0x9f) == 0x82 && (bytes[2] & 0x84) == 0);
    if (instruction.mode != 3) {
        decode_memory(context, &instruction);
    }
    return instruction;
}

enum { PREFIX_NONE = 0, PREFIX_F3 = 2, PREFIX_F2 = 3 };

static void carry_out(const struct instruction *instruction) {
    int opcode = instruction->at[3], prefix = instruction->prefix;
    bool memory = instruction->mode != 3;
    if (opcode == 0x49 && prefix == PREFIX_NONE && memory && instruction->reg == 0) {
        struct amx_config config;
        memcpy(&config, instruction->address, sizeof(config));
        ASSERT(instruction->stride == 0);
        configure(&config);
    } else if (opcode == 0x49 && prefix == PREFIX_NONE && !memory && instruction->at[4] == 0xc0) {
        release();
    } else if (opcode == 0x49 && prefix == PREFIX_F2 && !memory && instruction->rm == 0) {
        clear(instruction->reg);
    } else if (opcode == 0x4b && prefix == PREFIX_F2 && memory && instruction->rm == 4) {
        load(instruction->reg, instruction->address, instruction->stride);
    } else if (opcode == 0x4b && prefix == PREFIX_F3 && memory && instruction->rm == 4) {
        store(instruction->reg, instruction->address, instruction->stride);
    } else if (opcode == 0x5e && prefix == PREFIX_F2 && !memory) {
        dot_int8(instruction->reg, instruction->rm, instruction->operand);
    } else if (opcode == 0x5c && prefix == PREFIX_F3 && !memory) {
        dot_bf16(instruction->reg, instruction->rm, instruction->operand);
    } else {
        ASSERT(!"an AMX instruction");
    }
}

static void on_unknown_instruction(int number, siginfo_t *info, void *argument) {
    (void)number;
    (void)info;
    ucontext_t *context = argument;
    struct instruction instruction = decode(context);
    carry_out(&instruction);
    context->uc_mcontext.gregs[REG_RIP] += (greg_t)instruction.n_bytes;
}

void amx_emulation_install(void) {
    struct sigaction action = {.sa_sigaction = on_unknown_instruction, .sa_flags = SA_SIGINFO};
    ASSERT(sigaction(SIGILL, &action, NULL) == 0);
}

bool amx_emulation_holds_registers(void) {
    return tiles.config.palette != 0;
}
