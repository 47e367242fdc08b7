// surefoot models render MODEL: the text and ids of a conversation, and which of it messages said.
#ifndef CLIENT_CLI_MODELS_RENDER_H
#define CLIENT_CLI_MODELS_RENDER_H

#include "client/cli/cli.h"

int verb_models_render(struct cli *cli, int argc, char **argv);

#endif
