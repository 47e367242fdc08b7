// The named chat formats: the files of formats/, which the build turns into chat_formats.c.
#ifndef WORKER_TOKENIZER_CHAT_FORMATS_H
#define WORKER_TOKENIZER_CHAT_FORMATS_H

// NUL-terminated Jinja.
extern const char chat_format_alpaca[];
extern const char chat_format_beaver[];
extern const char chat_format_chatml[];
extern const char chat_format_llama_2[];
extern const char chat_format_llama_3[];
extern const char chat_format_raw[];
extern const char chat_format_vicuna[];

#endif
