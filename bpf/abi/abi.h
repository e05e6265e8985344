/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Everything that the kernel programs and the loader share: layouts and limits, no functions, no maps. */
#ifndef FASTNAT_ABI_H
#define FASTNAT_ABI_H

#include "address.h"
#include "bridge.h"
#include "flow.h"
#include "flow_limits.h"
#include "fragment.h"
#include "limits.h"
#include "mapping.h"
#include "masquerade.h"
#include "reasons.h"
#include "settings.h"
#include "stages.h"

#endif
