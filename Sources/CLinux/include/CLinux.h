/* Umbrella of the C that Swift cannot call by itself; each header says why it exists. */
#pragma once

#include "mount_shims.h"
#include "namespace_shims.h"
#include "netlink_headers.h"
