// File: config.h
//
// Moved: include config/provider_config.h. This one goes with 0.3.

#ifndef KEYROTATOR_CONFIG_H_
#define KEYROTATOR_CONFIG_H_

#include "keyrotator/config/provider_config.h"  // IWYU pragma: export

#endif  // KEYROTATOR_CONFIG_H_
