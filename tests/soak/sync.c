/* Preloaded into the soak's healers: dies by SIGKILL around the n-th fsync or fdatasync. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_int left;
static int after;

void soak_die_at_sync(int number, int afterwards) { after = afterwards; left = number; }

static int around(const char *name, int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int last = left > 0 && atomic_fetch_sub(&left, 1) == 1;
    if (last && !after)
        kill(getpid(), SIGKILL);
    int result = real(descriptor);
    if (last)
        kill(getpid(), SIGKILL);
    return result;
}

int fsync(int descriptor) { return around("fsync", descriptor); }
int fdatasync(int descriptor) { return around("fdatasync", descriptor); }
