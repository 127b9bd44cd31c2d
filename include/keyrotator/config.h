// File: config.h
//
// Moved: include what you use of the three below. This one goes with 0.3.

#ifndef KEYROTATOR_CONFIG_H_
#define KEYROTATOR_CONFIG_H_

#include "keyrotator/config/keys_from.h"         // IWYU pragma: export
#include "keyrotator/config/make_key_rotator.h"  // IWYU pragma: export
#include "keyrotator/config/provider_config.h"   // IWYU pragma: export

#endif  // KEYROTATOR_CONFIG_H_
