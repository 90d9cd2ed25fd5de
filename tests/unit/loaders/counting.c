/* A plugin that does what the tests ask it to, and counts what the host does with it. */
#include <plugkeep.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Read by the tests: how often each thing happened, over all instances. */
PLUGKEEP_EXPORT int created, destroyed, started, stopped, called, released, overlapped;

/* Set by the tests: what start and stop return. */
PLUGKEEP_EXPORT int start_result, stop_result;

/* Set by the tests: whether Ctrl-C is pressed during start and during the method "echo". */
PLUGKEEP_EXPORT int interrupted;

/* Two ends of a pipe, for a call that waits until it is told to go on: it writes a byte to
 * waiting and reads one from go_on. */
PLUGKEEP_EXPORT int waiting = -1, go_on = -1;

struct state {
    plugkeep_plugin plugin;
    char error[64];
    int inside;
};

static struct state *state_of(const plugkeep_plugin *self) { return self->state; }

static void enter(const plugkeep_plugin *self) {
    if (__atomic_add_fetch(&state_of(self)->inside, 1, __ATOMIC_SEQ_CST) > 1)
        overlapped++;
}

static int leave(const plugkeep_plugin *self, int result) {
    __atomic_sub_fetch(&state_of(self)->inside, 1, __ATOMIC_SEQ_CST);
    return result;
}

static int start(const plugkeep_plugin *self) {
    enter(self);
    started++;
    if (interrupted)
        raise(SIGINT);
    snprintf(state_of(self)->error, 64, "start returns %d", start_result);
    return leave(self, start_result);
}

static int stop(const plugkeep_plugin *self) {
    enter(self);
    stopped++;
    snprintf(state_of(self)->error, 64, "stop returns %d", stop_result);
    return leave(self, stop_result);
}

static void release(void *data) {
    released++;
    free(data);
}

static int answer(plugkeep_response *response, const char *data, size_t size) {
    char *copy = malloc(size + 1);
    if (!copy)
        return PLUGKEEP_FAILED;
    memcpy(copy, data, size);
    response->data = copy;
    response->size = size;
    response->release = release;
    return PLUGKEEP_OK;
}

static int wait_for_the_test(void) {
    char byte = '.';
    return write(waiting, &byte, 1) == 1 && read(go_on, &byte, 1) == 1 ? PLUGKEEP_OK : PLUGKEEP_FAILED;
}

static int dispatch(struct state *state, const char *method, const char *request, size_t size,
                    plugkeep_response *response) {
    if (!strcmp(method, "echo")) {
        if (interrupted)
            raise(SIGINT);
        return request[size] == 0 ? answer(response, request, size) : PLUGKEEP_FAILED;
    }
    if (!strcmp(method, "wait"))
        return wait_for_the_test();
    if (!strcmp(method, "nothing"))
        return PLUGKEEP_OK;
    if (!strcmp(method, "static")) {
        response->data = "[1, 2]";
        response->size = 6;
        return PLUGKEEP_OK;
    }
    if (!strcmp(method, "garbage"))
        return answer(response, "{\"a\": \xff", 7);
    if (!strcmp(method, "nan"))
        return answer(response, "NaN", 3);
    if (!strcmp(method, "fail")) {
        answer(response, "dropped", 7);
        snprintf(state->error, 64, "no \xffgood: %.*s", (int)size, request);
        return 42;
    }
    return PLUGKEEP_NO_SUCH_METHOD;
}

static int call(const plugkeep_plugin *self, const char *method, const char *request,
                size_t request_size, plugkeep_response *response) {
    enter(self);
    called++;
    return leave(self, dispatch(state_of(self), method, request, request_size, response));
}

static const char *last_error(const plugkeep_plugin *self) { return state_of(self)->error; }

static void destroy(const plugkeep_plugin *self) {
    enter(self);
    destroyed++;
    free(state_of(self));
}

const plugkeep_plugin *PluginFactory(void) {
    struct state *state = calloc(1, sizeof *state);
    if (!state)
        return NULL;
    created++;
    state->plugin = (plugkeep_plugin){
        PLUGKEEP_HEAD, .name = "counting", .start = start, .stop = stop, .call = call,
        .last_error = last_error, .destroy = destroy, .state = state,
    };
    return &state->plugin;
}
