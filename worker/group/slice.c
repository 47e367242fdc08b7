#include "worker/group/slice.h"

#include "common/log.h"

bool slice_fault_is_fatal(enum status status) {
    return status != STATUS_OK && status != STATUS_LIMIT;
}

enum status slice_fail(const Surefoot__Order *order, const struct error *fault, uint8_t **bytes,
                       size_t *size) {
    Surefoot__ErrorInfo info = SUREFOOT__ERROR_INFO__INIT;
    wire_error_fill(&info, fault);
    Surefoot__Gathered gathered = SUREFOOT__GATHERED__INIT;
    gathered.has_order_id = true;
    gathered.order_id = order->order_id;
    gathered.error = &info;
    return wire_pack(WIRE_GATHERED, &gathered, bytes, size) == STATUS_OK ? STATUS_OK
                                                                         : STATUS_NO_MEMORY;
}

enum status slice_execute(struct rank *rank, const Surefoot__Order *order, int rank_index,
                          uint8_t **bytes, size_t *size, struct error *fault) {
    *fault = (struct error){.status = STATUS_OK};
    Surefoot__Gathered *gathered = NULL;
    enum status status = rank_execute(rank, order, rank_index, &gathered, fault);
    if (status == STATUS_OK) {
        status = wire_pack(WIRE_GATHERED, gathered, bytes, size);
        wire_free(WIRE_GATHERED, gathered);
        if (status == STATUS_OK) {
            return STATUS_OK;
        }
        error_set(fault, status, "rows", "cannot pack the rows of rank %d: %s", rank_index,
                  status_text(status));
    }
    fault->status = status;
    log_error("rank %d, order %llu: %s: %s %s", rank_index, (unsigned long long)order->order_id,
              status_name(status), fault->field, fault->message);
    return slice_fail(order, fault, bytes, size);
}
