#include "worker/tokenizer/text_buffer.h"

#include <stdlib.h>
#include <string.h>

enum status text_buffer_append(struct text_buffer *buffer, const char *bytes, size_t count) {
    if (count > TEXT_BUFFER_BYTES_MAX - buffer->bytes) {
        return STATUS_LIMIT;
    }
    if (count > buffer->capacity - buffer->bytes) {
        size_t capacity = 2 * (buffer->bytes + count) + 256;
        char *data = realloc(buffer->data, capacity);
        if (data == NULL) {
            return STATUS_NO_MEMORY;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    if (count > 0) {
        memcpy(buffer->data + buffer->bytes, bytes, count);
    }
    buffer->bytes += count;
    return STATUS_OK;
}

void text_buffer_finish(struct text_buffer *buffer) {
    free(buffer->data);
    *buffer = (struct text_buffer){0};
}
