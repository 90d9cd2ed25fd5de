/* plugkeep.h: what a native library exports to be a plugkeep plugin. ABI version 1.
 *
 * A library exports one symbol, PluginFactory, a function that makes a plugin: a struct of
 * functions that begins with PLUGKEEP_HEAD. Plain C11, also C++; other languages mirror the
 * structs (every member has the size and alignment that C gives it on the platform).
 *
 *     #include <plugkeep.h>
 *
 *     static int start(const plugkeep_plugin *self) { (void)self; return PLUGKEEP_OK; }
 *     static int stop(const plugkeep_plugin *self) { (void)self; return PLUGKEEP_OK; }
 *
 *     static const plugkeep_plugin hello = {
 *         PLUGKEEP_HEAD, .name = "hello", .start = start, .stop = stop,
 *     };
 *
 *     const plugkeep_plugin *PluginFactory(void) { return &hello; }
 *
 *     cc -shared -fPIC -I"$(python -c 'import plugkeep; print(plugkeep.get_include())')" \
 *        -o libhello.so hello.c
 *
 * OWNERSHIP. Whoever made a piece of memory frees it. The host copies every string and every
 * response at once and keeps no pointer into them; a plugin copies what it wants to keep of what
 * it is given. How long each pointer stays valid is said at each member.
 *
 * THREADS. The host calls from any thread, not always the same one, but calls a function of an
 * instance only when the one before it has returned. Functions of different instances may run at
 * the same time, so data that instances share needs a lock of its own. Python's interpreter lock
 * is not held during a call: threads of Python go on, and a plugin that uses Python's C API takes
 * that lock itself (PyGILState_Ensure).
 *
 * ERRORS. A function that can fail returns PLUGKEEP_OK (0), or anything else and has the reason
 * ready in last_error. Exceptions, panics and longjmp must not leave a function.
 *
 * ORDER. PluginFactory, then any number of times start, call, call, ..., stop, then destroy. The
 * host keeps to it whatever its user does: start is called when not started, call and stop only
 * after a start that returned 0. After stop the plugin is stopped, whatever stop returned.
 *
 * VERSIONS. A change that old hosts or old libraries would not survive gets a new
 * PLUGKEEP_ABI_VERSION, and the host refuses what it does not know, naming both versions.
 * Members may be added at the end of plugkeep_plugin without one: size says which are there. So
 * a host reads no further than size, and takes members that it does not know as not there.
 *
 * A library is never unloaded while the host process lives.
 */
#ifndef PLUGKEEP_H
#define PLUGKEEP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PLUGKEEP_MAGIC UINT32_C(0x504B4550) /* "PKEP" */
#define PLUGKEEP_ABI_VERSION UINT32_C(1)

/* The first three members of a plugkeep_plugin, for its initializer. */
#define PLUGKEEP_HEAD PLUGKEEP_MAGIC, PLUGKEEP_ABI_VERSION, sizeof(plugkeep_plugin)

/* What functions return. Every value not listed here means failed, too, and reaches the host's
 * user as the error's code. */
#define PLUGKEEP_OK 0
#define PLUGKEEP_FAILED 1
/* From call: there is no such method. last_error is not asked. */
#define PLUGKEEP_NO_SUCH_METHOD (-32601)

#if defined(_WIN32)
#define PLUGKEEP_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define PLUGKEEP_EXPORT __attribute__((visibility("default")))
#else
#define PLUGKEEP_EXPORT
#endif

/* What call answers. The host passes it in zeroed. */
typedef struct plugkeep_response {
    /* The answer, JSON in UTF-8, need not end in a NUL. The plugin's; must stay valid until
     * release is called or, without release, until the next function of this instance is called.
     * NULL or a size of 0 means null, no value. Dropped when call did not return PLUGKEEP_OK. */
    const char *data;

    /* The length of data in bytes, without any NUL. */
    size_t size;

    /* Called with data, once, on the thread that made the call, as soon as the host has copied
     * data, whatever call returned, and before last_error; free() will do for memory from
     * malloc(). May be NULL: then there is nothing to release. */
    void (*release)(void *data);
} plugkeep_response;

typedef struct plugkeep_plugin plugkeep_plugin;

/* The host reads this struct once, when PluginFactory has returned, and hands its address to each
 * function as self. It must stay where it is until destroy, or for ever where destroy is NULL. */
struct plugkeep_plugin {
    /* PLUGKEEP_MAGIC, PLUGKEEP_ABI_VERSION and sizeof(plugkeep_plugin): PLUGKEEP_HEAD. */
    uint32_t magic;
    uint32_t abi_version;
    size_t size;

    /* The plugin's name: [A-Za-z0-9][A-Za-z0-9_.-]*, UTF-8, ending in a NUL. Required. The
     * plugin's; copied when PluginFactory has returned. */
    const char *name;

    /* Make the plugin ready to be used. Required. On failure it gives back what it took so far;
     * it may be called again then, and again after a stop. */
    int (*start)(const plugkeep_plugin *self);

    /* Give back what start took. Required. Waits until a call that is running has returned. */
    int (*stop)(const plugkeep_plugin *self);

    /* Call the method named method. Optional: NULL means that there are no methods.
     *
     * method: UTF-8, ending in a NUL. request: its arguments, JSON in UTF-8 of request_size
     * bytes, followed by a NUL that does not count: an array of positional arguments, an object
     * of named ones, or {"$args": [...], "$kwargs": {...}} where there are both (a name that
     * begins with '$' has one '$' more). Both are the host's and valid until call returns.
     * response: see there; the host's, valid until call returns.
     *
     * Returns PLUGKEEP_OK, PLUGKEEP_NO_SUCH_METHOD, or anything else for failed. */
    int (*call)(const plugkeep_plugin *self, const char *method, const char *request,
                size_t request_size, plugkeep_response *response);

    /* Why the function before this one failed: text in UTF-8, ending in a NUL, for people.
     * Optional: NULL, and returning NULL, mean that there is no text. The plugin's; must stay
     * valid until the next function of this instance is called. Asked only directly after a
     * failure, on the thread that saw it. */
    const char *(*last_error)(const plugkeep_plugin *self);

    /* Free everything that belongs to this instance, self included. Optional: NULL means that
     * there is nothing to free. The last function that is called, once for each time that
     * PluginFactory returned, when the host has let go of the plugin and has stopped it; never
     * while another function runs. Not called when the host process dies, or ends while another
     * function is still running. */
    void (*destroy)(const plugkeep_plugin *self);

    /* The plugin's own; the host does not touch it. */
    void *state;
};

/* Make a plugin. Called without arguments, once for each plugin that the host wants, from any
 * thread, perhaps from two at the same time. Returns an instance of its own for each call. A
 * library that can only have one returns the same address each time; what is said above of one
 * instance then holds for each of those returned, so it takes care of locks itself. NULL, and
 * anything that does not begin with PLUGKEEP_MAGIC, is refused.
 *
 * Where something else declares it, as cgo does (without const), define PLUGKEEP_NO_PROTOTYPE. */
#ifndef PLUGKEEP_NO_PROTOTYPE
PLUGKEEP_EXPORT const plugkeep_plugin *PluginFactory(void);
#endif

#ifdef __cplusplus
}
#endif

#endif /* PLUGKEEP_H */
