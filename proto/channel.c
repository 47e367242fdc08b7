#include "proto/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/unsent.h"

enum {
    QUEUE_DEPTH_DEFAULT = 1000,
    ENDPOINT_BYTES = 256,
    POLL_CHANNELS_MAX = 8,
    JUNK_PER_CALL_MAX = 1000, // dropped in one channel_receive before the caller gets its turn
    LINGER_MS = 1000,
    HANDSHAKE_MS = 5000,
    RECONNECT_MS = 100,
    RECONNECT_MAX_MS = 2000,
    // Instead of libzmq's heartbeats: 4.3 ends the process when one is due on a connection that
    // broke while more of it waited than may be received (stream_engine_base.cpp, out_event).
    KEEPALIVE_IDLE_S = 20,
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_COUNT = 4,
};

struct channel_context {
    void *zmq;
};

struct channel {
    void *socket;
    bool is_router;
    size_t message_bytes_max;
    struct unsent *unsent; // NULL: bytes are not counted
    uint64_t dropped;
    char endpoint[ENDPOINT_BYTES];
};

enum status channel_context_create(struct channel_context **out) {
    struct channel_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        return STATUS_NO_MEMORY;
    }
    context->zmq = zmq_ctx_new();
    if (context->zmq == NULL) {
        free(context);
        return STATUS_NO_MEMORY;
    }
    *out = context;
    return STATUS_OK;
}

void channel_context_destroy(struct channel_context *context) {
    if (context == NULL) {
        return;
    }
    while (zmq_ctx_term(context->zmq) != 0 && zmq_errno() == EINTR) {
    }
    free(context);
}

static enum status convert_errno(int code) {
    switch (code) {
    case EAGAIN:
        return STATUS_UNAVAILABLE;
    case EHOSTUNREACH:
        return STATUS_PEER_LOST;
    case EPROTONOSUPPORT:
    case ENODEV:
    case EADDRNOTAVAIL:
        return STATUS_INVALID_ARGUMENT;
    case ETERM:
    case ENOTSOCK:
    case EFSM:
    case EMTHREAD:
        return STATUS_INTERNAL;
    default:
        return status_from_errno(code);
    }
}

// Splits "host:port" at the last colon; false unless the host fits and the port is a number up to
// 65535, or "*" where a free port may be taken.
static bool split_address(const char *address, bool may_bind, char host[64]) {
    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= 64) {
        return false;
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    const char *port = colon + 1;
    if (strcmp(port, "*") == 0) {
        return may_bind;
    }
    size_t digits = strspn(port, "0123456789");
    if (digits == 0 || digits > 5 || port[digits] != '\0') {
        return false;
    }
    long number = strtol(port, NULL, 10);
    return number <= 65535 && (number > 0 || may_bind);
}

static enum status check_tcp(const char *address, bool may_bind, struct error *err) {
    char host[64];
    if (!split_address(address, may_bind, host)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "endpoint",
                         "\"tcp://%s\" is not tcp://address:port", address);
    }
    struct in_addr ipv4;
    bool loopback = strcmp(host, "[::1]") == 0 ||
                    (inet_pton(AF_INET, host, &ipv4) == 1 && ntohl(ipv4.s_addr) >> 24 == 127);
    if (!loopback) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "endpoint",
                         "\"tcp://%s\": without keys only 127.0.0.0/8, [::1] and ipc:// are served",
                         address);
    }
    return STATUS_OK;
}

static enum status check_ipc(const char *path, struct error *err) {
    size_t limit = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;
    // "*" and "@" would make a socket that no file permissions guard.
    if (path[0] == '\0' || path[0] == '*' || path[0] == '@') {
        return error_set(err, STATUS_INVALID_ARGUMENT, "endpoint", "\"ipc://%s\" names no file",
                         path);
    }
    if (strlen(path) > limit) {
        return error_set(err, STATUS_LIMIT, "endpoint",
                         "the path has %zu bytes, above the system's limit %zu", strlen(path),
                         limit);
    }
    return STATUS_OK;
}

enum status channel_check_endpoint(const char *endpoint, bool may_bind, struct error *err) {
    if (strlen(endpoint) >= ENDPOINT_BYTES) {
        return error_set(err, STATUS_LIMIT, "endpoint", "longer than %d bytes", ENDPOINT_BYTES - 1);
    }
    if (strncmp(endpoint, "tcp://", 6) == 0) {
        return check_tcp(endpoint + 6, may_bind, err);
    }
    if (strncmp(endpoint, "ipc://", 6) == 0) {
        return check_ipc(endpoint + 6, err);
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "endpoint",
                     "\"%s\" is neither tcp:// nor ipc://", endpoint);
}

// libzmq removes whatever stands at an ipc path before it binds, a live service's socket and plain
// files included; so look first. A dead socket is left to libzmq.
static enum status check_ipc_free(const char *path, struct error *err) {
    struct stat info;
    if (lstat(path, &info) != 0) {
        return STATUS_OK;
    }
    if (!S_ISSOCK(info.st_mode)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "endpoint", "%s exists and is not a socket",
                         path);
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) {
        return error_set(err, status_from_errno(errno), "endpoint", "%s", strerror(errno));
    }
    bool alive =
        connect(probe, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN;
    close(probe);
    return alive ? error_set(err, STATUS_ADDRESS_IN_USE, "endpoint", "ipc://%s is in use", path)
                 : STATUS_OK;
}

static bool set_int(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool set_options(struct channel *channel, const char *endpoint,
                        const struct channel_options *options) {
    void *socket = channel->socket;
    int depth = options->queue_depth_max > 0 ? options->queue_depth_max : QUEUE_DEPTH_DEFAULT;
    int receive_depth = options->receive_depth_max > 0 ? options->receive_depth_max : depth;
    int64_t bytes_max = (int64_t)options->message_bytes_max;
    bool set = zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &bytes_max, sizeof bytes_max) == 0 &&
               set_int(socket, ZMQ_SNDHWM, depth) && set_int(socket, ZMQ_RCVHWM, receive_depth) &&
               set_int(socket, ZMQ_LINGER, LINGER_MS) &&
               set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) &&
               set_int(socket, ZMQ_RECONNECT_IVL, RECONNECT_MS) &&
               set_int(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) &&
               set_int(socket, ZMQ_TCP_KEEPALIVE, 1) &&
               set_int(socket, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S) &&
               set_int(socket, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S) &&
               set_int(socket, ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT) &&
               set_int(socket, ZMQ_IPV6, strstr(endpoint, "[::1]") != NULL);
    if (set && channel->is_router) {
        // A peer that comes back under its fixed identity replaces its dead connection.
        set = set_int(socket, ZMQ_ROUTER_MANDATORY, 1) && set_int(socket, ZMQ_ROUTER_HANDOVER, 1);
    } else if (set && options->identity != NULL) {
        set = zmq_setsockopt(socket, ZMQ_ROUTING_ID, options->identity,
                             strlen(options->identity)) == 0;
    }
    return set;
}

static enum status attach(struct channel *channel, const char *endpoint, struct error *err) {
    int rc = channel->is_router ? zmq_bind(channel->socket, endpoint)
                                : zmq_connect(channel->socket, endpoint);
    if (rc != 0) {
        enum status status = convert_errno(zmq_errno());
        return error_set(err, status, "endpoint", "cannot %s %s: %s",
                         channel->is_router ? "bind" : "connect to", endpoint,
                         zmq_strerror(zmq_errno()));
    }
    size_t size = sizeof channel->endpoint;
    if (zmq_getsockopt(channel->socket, ZMQ_LAST_ENDPOINT, channel->endpoint, &size) != 0) {
        return error_set(err, convert_errno(zmq_errno()), "endpoint", "%s",
                         zmq_strerror(zmq_errno()));
    }
    return STATUS_OK;
}

static enum status open_channel(struct channel_context *context, bool is_router,
                                const char *endpoint, const struct channel_options *options,
                                struct channel **out, struct error *err) {
    ASSERT(options->message_bytes_max > 0);
    if (options->identity != NULL &&
        (options->identity[0] == '\0' || strlen(options->identity) > CHANNEL_PEER_BYTES)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "identity", "not 1 to %d bytes",
                         CHANNEL_PEER_BYTES);
    }
    enum status status = channel_check_endpoint(endpoint, is_router, err);
    if (status == STATUS_OK && is_router && strncmp(endpoint, "ipc://", 6) == 0) {
        status = check_ipc_free(endpoint + 6, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a channel");
    }
    channel->is_router = is_router;
    channel->message_bytes_max = options->message_bytes_max;
    if (options->unsent_bytes_max > 0) {
        ASSERT(is_router);
        status =
            unsent_create(options->unsent_bytes_max, options->unsent_total_max, &channel->unsent);
        if (status != STATUS_OK) {
            channel_close(channel);
            return error_set(err, status, NULL, "no memory for a channel");
        }
    }
    channel->socket = zmq_socket(context->zmq, is_router ? ZMQ_ROUTER : ZMQ_DEALER);
    if (channel->socket == NULL || !set_options(channel, endpoint, options)) {
        status = error_set(err, convert_errno(zmq_errno()), "endpoint", "cannot make a socket: %s",
                           zmq_strerror(zmq_errno()));
    } else {
        status = attach(channel, endpoint, err);
    }
    if (status != STATUS_OK) {
        channel_close(channel);
        return status;
    }
    *out = channel;
    return STATUS_OK;
}

enum status channel_bind(struct channel_context *context, const char *endpoint,
                         const struct channel_options *options, struct channel **out,
                         struct error *err) {
    return open_channel(context, true, endpoint, options, out, err);
}

enum status channel_connect(struct channel_context *context, const char *endpoint,
                            const struct channel_options *options, struct channel **out,
                            struct error *err) {
    return open_channel(context, false, endpoint, options, out, err);
}

void channel_close(struct channel *channel) {
    if (channel == NULL) {
        return;
    }
    if (channel->socket != NULL) {
        zmq_close(channel->socket);
    }
    unsent_destroy(channel->unsent);
    free(channel);
}

const char *channel_endpoint(const struct channel *channel) {
    return channel->endpoint;
}

uint64_t channel_dropped(const struct channel *channel) {
    return channel->dropped;
}

// Sends a frame, after a signal too; in every case it is the socket's or closed.
static enum status send_frame(void *socket, zmq_msg_t *frame, int flags) {
    int rc = 0;
    do {
        rc = zmq_msg_send(frame, socket, flags | ZMQ_DONTWAIT);
    } while (rc < 0 && zmq_errno() == EINTR);
    if (rc >= 0) {
        return STATUS_OK;
    }
    enum status status = convert_errno(zmq_errno());
    zmq_msg_close(frame);
    return status;
}

static enum status copy_in(const uint8_t *bytes, size_t size, zmq_msg_t *frame) {
    if (zmq_msg_init_size(frame, size) != 0) {
        return STATUS_NO_MEMORY;
    }
    if (size > 0) {
        memcpy(zmq_msg_data(frame), bytes, size);
    }
    return STATUS_OK;
}

static enum status count_in(struct unsent *unsent, const struct channel_peer *peer,
                            const uint8_t *bytes, size_t size, zmq_msg_t *frame) {
    struct parcel *parcel = NULL;
    enum status status = unsent_pack(unsent, peer, bytes, size, &parcel);
    if (status == STATUS_OK &&
        zmq_msg_init_data(frame, parcel->bytes, size, unsent_release, parcel) != 0) {
        unsent_release(parcel->bytes, parcel);
        status = STATUS_NO_MEMORY;
    }
    return status;
}

enum status channel_send(struct channel *channel, const struct channel_peer *peer,
                         const uint8_t *bytes, size_t size) {
    ASSERT(channel->is_router == (peer != NULL));
    if (size > channel->message_bytes_max) {
        return STATUS_LIMIT;
    }
    zmq_msg_t body;
    enum status status = channel->unsent != NULL
                             ? count_in(channel->unsent, peer, bytes, size, &body)
                             : copy_in(bytes, size, &body);
    if (status != STATUS_OK) {
        return status;
    }
    if (peer != NULL) {
        zmq_msg_t identity;
        // With ROUTER_MANDATORY a lost peer or a full queue shows here; the body then always fits.
        status = copy_in(peer->bytes, peer->size, &identity);
        if (status == STATUS_OK) {
            status = send_frame(channel->socket, &identity, ZMQ_SNDMORE);
        }
        if (status != STATUS_OK) {
            zmq_msg_close(&body);
            return status;
        }
    }
    return send_frame(channel->socket, &body, 0);
}

// Receives one frame; the caller closes it.
static enum status receive_frame(struct channel *channel, zmq_msg_t *frame) {
    zmq_msg_init(frame);
    int rc = 0;
    do {
        rc = zmq_msg_recv(frame, channel->socket, ZMQ_DONTWAIT);
    } while (rc < 0 && zmq_errno() == EINTR);
    if (rc >= 0) {
        return STATUS_OK;
    }
    return zmq_errno() == EAGAIN ? STATUS_NOT_FOUND : convert_errno(zmq_errno());
}

// Throws away the rest of a message whose last read frame is `frame`.
static void drain(struct channel *channel, zmq_msg_t *frame) {
    while (zmq_msg_more(frame)) {
        zmq_msg_close(frame);
        if (receive_frame(channel, frame) != STATUS_OK) {
            return;
        }
    }
}

// Reads the identity frame into *peer; false when the message has no more frames or the identity is
// longer than we keep.
static bool take_identity(zmq_msg_t *frame, struct channel_peer *peer) {
    size_t size = zmq_msg_size(frame);
    if (size > CHANNEL_PEER_BYTES || !zmq_msg_more(frame)) {
        return false;
    }
    peer->size = (uint8_t)size;
    memcpy(peer->bytes, zmq_msg_data(frame), size);
    return true;
}

static enum status copy_out(zmq_msg_t *frame, uint8_t **bytes, size_t *size) {
    size_t count = zmq_msg_size(frame);
    uint8_t *copy = malloc(count + 1);
    if (copy == NULL) {
        return STATUS_NO_MEMORY;
    }
    if (count > 0) {
        memcpy(copy, zmq_msg_data(frame), count);
    }
    *bytes = copy;
    *size = count;
    return STATUS_OK;
}

// One whole message. *junk is set, and the message gone, when it is not one that we read.
static enum status receive_message(struct channel *channel, struct channel_peer *peer,
                                   uint8_t **bytes, size_t *size, bool *junk) {
    zmq_msg_t frame;
    *junk = false;
    enum status status = receive_frame(channel, &frame);
    if (status == STATUS_OK && channel->is_router) {
        *junk = !take_identity(&frame, peer);
        if (!*junk) {
            zmq_msg_close(&frame);
            status = receive_frame(channel, &frame);
        }
    }
    if (status == STATUS_OK) {
        *junk = *junk || zmq_msg_more(&frame);
        drain(channel, &frame);
        status = *junk ? STATUS_NOT_FOUND : copy_out(&frame, bytes, size);
    }
    zmq_msg_close(&frame);
    return status;
}

enum status channel_receive(struct channel *channel, struct channel_peer *peer, uint8_t **bytes,
                            size_t *size) {
    struct channel_peer sender;
    for (int i = 0; i < JUNK_PER_CALL_MAX; i++) {
        bool junk = false;
        enum status status = receive_message(channel, &sender, bytes, size, &junk);
        if (!junk) {
            if (status == STATUS_OK && channel->is_router && peer != NULL) {
                *peer = sender;
            }
            return status;
        }
        channel->dropped++;
    }
    return STATUS_NOT_FOUND;
}

enum status channel_poll(struct channel *const *channels, int n_channels, int wake_fd,
                         int timeout_ms, bool *ready) {
    ASSERT(n_channels >= 0 && n_channels <= POLL_CHANNELS_MAX && timeout_ms >= 0);
    zmq_pollitem_t items[POLL_CHANNELS_MAX + 1];
    for (int i = 0; i < n_channels; i++) {
        items[i] = (zmq_pollitem_t){.socket = channels[i]->socket, .events = ZMQ_POLLIN};
        ready[i] = false;
    }
    int n_items = n_channels;
    if (wake_fd >= 0) {
        items[n_items++] = (zmq_pollitem_t){.fd = wake_fd, .events = ZMQ_POLLIN};
    }
    int count = zmq_poll(items, n_items, timeout_ms);
    if (count < 0 && zmq_errno() != EINTR) {
        return convert_errno(zmq_errno());
    }
    if (count <= 0) {
        return STATUS_DEADLINE;
    }
    for (int i = 0; i < n_channels; i++) {
        ready[i] = (items[i].revents & ZMQ_POLLIN) != 0;
    }
    return STATUS_OK;
}
